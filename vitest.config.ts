import { defineConfig } from 'vitest/config'
import { patience } from './test/lab/patience.ts'

/** Programs that tests start print as into a pipe, whatever the terminal and CI say. */
const env = { FORCE_COLOR: '0' }

// `unit` needs no root and takes seconds; `kernel` builds its own network namespaces and needs root; `vm` is about the guest of
// test/vm and runs in it.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          env,
          include: ['src/**/*.test.ts', 'test/unit/**/*.test.ts', 'bench/**/*.test.ts'],
          // Against tests that hang. A machine that stands still for ten seconds is no failure.
          testTimeout: patience(60_000),
          hookTimeout: patience(60_000),
          exclude: ['**/*.kernel.test.ts', '**/node_modules/**'],
        },
      },
      {
        test: {
          name: 'kernel',
          env,
          include: ['test/kernel/**/*.test.ts', 'src/**/*.kernel.test.ts'],
          // Each file has namespaces of its own; two at a time, since much of what they do is to wait.
          pool: 'forks',
          maxWorkers: 2,
          testTimeout: patience(60_000),
          hookTimeout: patience(60_000),
        },
      },
      {
        test: {
          name: 'vm',
          env,
          include: ['test/vm/**/*.test.ts'],
          pool: 'forks',
          fileParallelism: false,
          testTimeout: patience(60_000),
          hookTimeout: patience(60_000),
        },
      },
      {
        // Minutes each: a fresh Debian, provisioned and booted. Not part of `npm test`.
        test: {
          name: 'provision',
          env,
          include: ['test/provision/**/*.test.ts'],
          testTimeout: 900_000,
        },
      },
    ],
  },
})
