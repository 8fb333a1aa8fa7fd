import { Option } from 'commander'

/** `--socket PATH`, with the default of the configuration. */
export function socketOption(): Option {
  return new Option('--socket <path>', "the daemon's control socket")
    .default('/run/fairlead/control.sock')
    .env('FAIRLEAD_SOCKET')
}
