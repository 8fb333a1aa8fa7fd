/** Types of the kinds that the server has, but for Pod: names, types and keys as in Kubernetes 1.36. */
export const coreTypes = `
ObjectMeta: What all objects have: their name, labels, and what the server knows of them.
  name string Names the object; unique among its kind and namespace. It cannot be changed.
  generateName string The beginning of a name that the server completes, when name is empty.
  namespace string The namespace that the object is in.
  labels <string> Names and values that selectors look for.
  annotations <string> Names and values that selectors do not look for.
  uid string Unique in time and space; given by the server.
  resourceVersion string Changes whenever the object changes; send it back to be told of changes in between.
  generation int64 Counts changes of what is wished.
  creationTimestamp time When the object was created.
  deletionTimestamp time When deletion was asked for; the object goes when its finalizers are gone.
  deletionGracePeriodSeconds int64 Seconds left to end in an orderly way.
  finalizers [string]{set} Names of those who must clean up before the object goes.
  ownerReferences [OwnerReference]{uid} Objects that this one belongs to.
  managedFields [any] Which manager set which fields.
  selfLink string No longer used.
OwnerReference: An object that owns another.
  apiVersion string!
  kind string!
  name string!
  uid string!
  controller boolean The owner is the one controller of the object.
  blockOwnerDeletion boolean
Condition: One aspect of the state of an object.
  type string! Names the aspect.
  status string! True, False or Unknown.
  observedGeneration int64
  lastTransitionTime time
  lastHeartbeatTime time
  lastProbeTime time
  lastUpdateTime time
  reason string A word for machines.
  message string A sentence for people.
ObjectReference: Points to another object.
  apiVersion string
  fieldPath string
  kind string
  name string
  namespace string
  resourceVersion string
  uid string
LocalObjectReference: Names an object of the same namespace.
  name string
LabelSelector: Chooses objects by their labels.
  matchLabels <string>
  matchExpressions [any]
Namespace: Holds objects whose names need only be unique within it.
  apiVersion string
  kind string
  metadata ObjectMeta
  spec NamespaceSpec
  status NamespaceStatus
NamespaceSpec: What is wished of a namespace.
  finalizers [string]
NamespaceStatus: What is known of a namespace.
  phase string Active or Terminating.
  conditions [Condition]{type}
Node: A machine that pods run on.
  apiVersion string
  kind string
  metadata ObjectMeta
  spec NodeSpec
  status NodeStatus
NodeSpec: What is wished of a node.
  podCIDR string The network of the node's pods.
  podCIDRs [string]{set} The networks of the node's pods, at most one per family.
  providerID string
  unschedulable boolean
  taints [Taint] Keep pods away that do not tolerate them.
  externalID string
  configSource any
Taint: Keeps pods away from a node.
  key string!
  value string
  effect string!
  timeAdded time
NodeStatus: What is known of a node.
  addresses [NodeAddress]{type} Where the node is reached.
  capacity <quantity>
  allocatable <quantity>
  conditions [Condition]{type}
  phase string
  daemonEndpoints any
  nodeInfo NodeSystemInfo
  images [any]
  volumesInUse [string]
  volumesAttached [any]
  config any
  features any
  runtimeHandlers [any]
NodeAddress: One address of a node.
  type string! InternalIP, ExternalIP, Hostname, InternalDNS or ExternalDNS.
  address string!
NodeSystemInfo: What runs on a node.
  machineID string
  systemUUID string
  bootID string
  kernelVersion string
  osImage string
  containerRuntimeVersion string
  kubeletVersion string
  kubeProxyVersion string
  operatingSystem string
  architecture string
  swap any
Service: A name and an address for a set of pods, and how connections are shared among them.
  apiVersion string
  kind string
  metadata ObjectMeta
  spec ServiceSpec What the Service is for.
  status ServiceStatus
ServiceSpec: What is wished of a Service.
  type string=ClusterIP ClusterIP, NodePort (also on a port of each node), LoadBalancer (also on outside addresses) or ExternalName (a DNS alias).
  selector <string> Labels of the pods behind the Service. Without, its endpoints are written by somebody else.
  ports [ServicePort]{port,protocol} What the Service listens on.
  clusterIP string The virtual address; given when empty. None: a headless Service, with names only.
  clusterIPs [string] The virtual addresses, at most one per family, the primary first.
  ipFamilies [string] IPv4, IPv6 or both, the primary first.
  ipFamilyPolicy string SingleStack, PreferDualStack or RequireDualStack.
  externalIPs [string] Further addresses whose packets are taken.
  externalName string The name that type ExternalName stands for.
  externalTrafficPolicy string Cluster, or Local: only pods of the node that got the packet, and the client's address is kept.
  internalTrafficPolicy string Cluster, or Local: only pods of the client's node.
  trafficDistribution string Prefer endpoints that are near, like PreferSameZone.
  healthCheckNodePort int32 Where balancers ask whether a node has endpoints; for externalTrafficPolicy Local.
  loadBalancerIP string The outside address that is wished.
  loadBalancerClass string Who gives outside addresses.
  loadBalancerSourceRanges [string] Networks that may use the outside addresses.
  allocateLoadBalancerNodePorts boolean Whether type LoadBalancer has node ports too.
  publishNotReadyAddresses boolean Count pods that are not ready.
  sessionAffinity string=None None, or ClientIP: a client stays with its pod.
  sessionAffinityConfig SessionAffinityConfig
SessionAffinityConfig: How clients stay with their pod.
  clientIP ClientIPConfig
ClientIPConfig: How clients stay with their pod, by address.
  timeoutSeconds int32 Seconds that a silent client is remembered, 1 to 86400.
ServicePort: One port of a Service.
  name string Needed when there is more than one; DNS SRV records use it.
  protocol string=TCP TCP, UDP or SCTP.
  port int32! What clients connect to.
  targetPort intstr The pods' port, by number or by name. Default: the same as port.
  nodePort int32 The port on each node, for types NodePort and LoadBalancer; given when empty.
  appProtocol string What is spoken on the port.
ServiceStatus: What is known of a Service.
  loadBalancer LoadBalancerStatus
  conditions [Condition]{type}
LoadBalancerStatus: Outside addresses that a Service was given.
  ingress [LoadBalancerIngress]
LoadBalancerIngress: One outside address.
  ip string
  ipMode string
  hostname string
  ports [any]
Endpoints: Addresses behind a Service. EndpointSlices are their successor.
  apiVersion string
  kind string
  metadata ObjectMeta
  subsets [EndpointSubset]
EndpointSubset: Addresses that have the same ports.
  addresses [EndpointAddress]
  notReadyAddresses [EndpointAddress]
  ports [EndpointPort]
EndpointAddress: One address behind a Service.
  ip string!
  hostname string
  nodeName string
  targetRef ObjectReference.atomic
EndpointPort: One port of the addresses.
  name string
  port int32!
  protocol string=TCP
  appProtocol string
EndpointSlice: Some of the endpoints behind a Service.
  apiVersion string
  kind string
  metadata ObjectMeta
  addressType string! IPv4, IPv6 or FQDN.
  endpoints [Endpoint]
  ports [SlicePort]
Endpoint: One endpoint behind a Service.
  addresses [string]{set}
  conditions EndpointConditions
  hostname string
  nodeName string
  zone string
  targetRef ObjectReference.atomic
  deprecatedTopology <string>
  hints EndpointHints
EndpointConditions: The state of an endpoint.
  ready boolean
  serving boolean
  terminating boolean
EndpointHints: Who should prefer an endpoint.
  forZones [any]
  forNodes [any]
SlicePort: One port of the endpoints of a slice.
  name string
  port int32
  protocol string=TCP
  appProtocol string
Lease: Says that its holder was alive at a time.
  apiVersion string
  kind string
  metadata ObjectMeta
  spec LeaseSpec
LeaseSpec: Who holds a Lease, since when and for how long.
  holderIdentity string
  leaseDurationSeconds int32
  acquireTime time
  renewTime time
  leaseTransitions int32
  preferredHolder string
  strategy string
Event: Something that happened to an object.
  apiVersion string
  kind string
  metadata ObjectMeta
  involvedObject ObjectReference!
  reason string
  message string
  source EventSource
  type string
  count int32
  firstTimestamp time
  lastTimestamp time
  eventTime time
  action string
  related ObjectReference
  reportingComponent string
  reportingInstance string
  series any
EventSource: Who reports an Event.
  component string
  host string
Network: A network of fairlead: a bridge with its subnets, or a part of the LAN.
  apiVersion string
  kind string
  metadata ObjectMeta
  spec any What is wished; the fields are those of a network in the configuration.
  status any
ServiceCIDR: Networks that cluster IPs are taken from.
  apiVersion string
  kind string
  metadata ObjectMeta
  spec ServiceCIDRSpec
  status any
ServiceCIDRSpec: Networks that cluster IPs are taken from.
  cidrs [string] One per family at most.
`
