/** Types of Pods: names, types and keys as in Kubernetes 1.36. What only a kubelet needs is taken as it is (`any`). */
export const podTypes = `
Pod: Containers that share one network address.
  apiVersion string
  kind string
  metadata ObjectMeta
  spec PodSpec
  status PodStatus
PodSpec: What is wished of a pod.
  activeDeadlineSeconds int64
  affinity any
  automountServiceAccountToken boolean
  containers [Container]{name}
  dnsConfig any
  dnsPolicy string=ClusterFirst
  enableServiceLinks boolean=true
  ephemeralContainers [any]
  hostAliases [HostAlias]{ip}
  hostIPC boolean
  hostNetwork boolean The pod uses the node's network.
  hostPID boolean
  hostUsers boolean
  hostname string The pod's host name; its own name when empty.
  hostnameOverride string
  imagePullSecrets [LocalObjectReference]{name}
  initContainers [Container]{name}
  nodeName string The node that the pod runs on.
  nodeSelector <string>
  os any
  overhead <quantity>
  preemptionPolicy string
  priority int32
  priorityClassName string
  readinessGates [any]
  resourceClaims [any]{name}
  resources any
  restartPolicy string=Always
  runtimeClassName string
  schedulerName string=default-scheduler
  schedulingGates [any]{name}
  securityContext any
  serviceAccount string
  serviceAccountName string
  setHostnameAsFQDN boolean
  shareProcessNamespace boolean
  subdomain string With a headless Service of this name, the pod has a name in DNS.
  terminationGracePeriodSeconds int64=30
  tolerations [any]
  topologySpreadConstraints [any]{topologyKey,whenUnsatisfiable}
  volumes [any]{name}
  workloadRef any
HostAlias: Names of an address in the pod's hosts file.
  ip string!
  hostnames [string]
Container: One container of a pod.
  name string!
  image string
  imagePullPolicy string
  command [string]
  args [string]
  workingDir string
  env [EnvVar]{name}
  envFrom [any]
  ports [ContainerPort]{containerPort,protocol}
  resources any
  resizePolicy [any]
  restartPolicy string
  restartPolicyRules [any]
  volumeMounts [any]{mountPath}
  volumeDevices [any]{devicePath}
  livenessProbe any
  readinessProbe any
  startupProbe any
  lifecycle any
  terminationMessagePath string
  terminationMessagePolicy string
  securityContext any
  stdin boolean
  stdinOnce boolean
  tty boolean
EnvVar: One variable of the environment.
  name string!
  value string
  valueFrom any
ContainerPort: A port that a container listens on.
  name string Services may name it in targetPort.
  containerPort int32!
  protocol string=TCP
  hostPort int32
  hostIP string
PodStatus: What is known of a pod.
  phase string Pending, Running, Succeeded, Failed or Unknown.
  conditions [Condition]{type}
  message string
  reason string
  nominatedNodeName string
  hostIP string
  hostIPs [any]
  podIP string The pod's address.
  podIPs [PodIP]{ip} The pod's addresses, at most one per family.
  startTime time
  initContainerStatuses [any]
  containerStatuses [any]
  ephemeralContainerStatuses [any]
  qosClass string
  resize string
  resourceClaimStatuses [any]{name}
  observedGeneration int64
  allocatedResources any
  resources any
  extendedResourceClaimStatus any
PodIP: One address of a pod.
  ip string!
`
