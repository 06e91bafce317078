// The import directions of docs/architecture.md, as rules: imports only point down the list of layers.
import js from '@eslint/js'
import tseslint from 'typescript-eslint'

/** What each folder of lib/ may not import, and why. */
const layers = {
  base: {
    not: [
      'codes',
      'format',
      'planning',
      'blocks',
      'vault',
      'store',
      'partners',
      'restore',
      'mount',
      'daemon',
      'cli',
    ],
    why: 'base/ stands below everything',
  },
  codes: {
    not: ['format', 'planning', 'blocks', 'vault', 'store', 'partners', 'restore', 'mount', 'daemon', 'cli'],
    why: 'codes/ is pure: bytes in, bytes out; it knows no keys and no layouts',
  },
  format: {
    not: ['planning', 'blocks', 'vault', 'store', 'partners', 'restore', 'mount', 'daemon', 'cli'],
    why: 'format/ is pure: codecs know no storage and no network',
  },
  planning: {
    not: ['blocks', 'vault', 'store', 'partners', 'restore', 'mount', 'daemon', 'cli', 'node:*'],
    why: 'planning/ is pure: plain data and the time go in, a plan comes out; a simulation runs the same code',
  },
  blocks: {
    not: ['vault', 'store', 'partners', 'restore', 'mount', 'daemon', 'cli'],
    why: 'blocks/ keeps sealed blocks for store/ and vault/ and knows neither',
  },
  vault: {
    not: ['store', 'partners', 'restore', 'mount', 'daemon', 'cli'],
    why: 'the vault handles ciphertext of others only',
  },
  store: {
    not: ['vault', 'partners', 'restore', 'mount', 'daemon', 'cli'],
    why: 'store and partners do not know each other; the daemon joins them',
  },
  partners: {
    not: ['vault', 'store', 'restore', 'mount', 'daemon', 'cli'],
    why: 'store and partners do not know each other; the daemon joins them',
  },
  restore: {
    not: ['vault', 'mount', 'daemon', 'cli'],
    why: 'restore/ works without a mount and without a daemon',
  },
  mount: {
    not: ['vault', 'partners', 'restore', 'daemon', 'cli'],
    why: 'the mount never waits for the network; the daemon joins it with the rest',
  },
  daemon: { not: ['cli'], why: 'the daemon does not know who asks' },
  cli: {
    not: ['format', 'blocks', 'vault', 'store', 'partners', 'restore', 'mount'],
    why: 'the command line knows only the control client (daemon/control-client, daemon/api) and base/',
  },
}

/** Packages with one importer, so that each can be replaced in one place. */
const onlyIn = {
  lmdb: { in: 'blocks', why: 'only blocks/database.ts knows lmdb' },
  hyperdht: { in: 'partners', why: 'only partners/ knows the DHT' },
  'cli-progress': { in: 'cli', why: 'only the command line draws' },
  chokidar: { in: 'mount', why: 'only mount/watch.ts watches' },
  ignore: { in: 'base', why: 'patterns are matched by base/patterns.ts' },
  commander: { in: 'cli', why: 'only the command line parses arguments' },
  pino: { in: 'base', why: 'log through base/log.ts' },
}

function rulesFor(folder) {
  const packages = Object.entries(onlyIn)
    .filter(([, rule]) => rule.in !== folder)
    .map(([name, rule]) => ({ name, message: rule.why }))
  const { not, why } = layers[folder]
  return {
    files: [`lib/${folder}/**/*.ts`],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          paths: packages,
          patterns: not.map((other) => ({
            group: [other.includes(':') ? other : `**/${other}/*`],
            message: why,
          })),
        },
      ],
    },
  }
}

const clockRules = [
  { object: 'Date', property: 'now', message: 'take a Clock (base/clock.ts): time is injected' },
  { object: 'performance', property: 'now', message: 'take a Clock (base/clock.ts): time is injected' },
  { object: 'Math', property: 'random', message: 'use base/random.ts or a seeded generator' },
]

export default tseslint.config(
  { ignores: ['dist/**', 'node_modules/**', 'native/**', '.tap/**'] },
  js.configs.recommended,
  ...tseslint.configs.recommended,
  {
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      eqeqeq: 'error',
      'prefer-const': 'error',
      'max-lines': ['error', { max: 600 }],
      'max-lines-per-function': ['error', { max: 70, skipComments: true, skipBlankLines: true }],
    },
  },
  {
    files: ['lib/**/*.ts'],
    ignores: ['lib/base/clock.ts', 'lib/base/random.ts'],
    rules: { 'no-restricted-properties': ['error', ...clockRules] },
  },
  {
    files: ['lib/**/*.ts'],
    ignores: ['lib/cli/**'],
    rules: { 'no-console': ['error'] },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts', 'simulate/**/*.ts', 'scripts/**'],
    languageOptions: {
      globals: { process: 'readonly', console: 'readonly', Buffer: 'readonly', setTimeout: 'readonly' },
    },
    rules: { 'max-lines-per-function': 'off' },
  },
  {
    files: ['**/*.mjs', '**/*.js'],
    languageOptions: {
      globals: {
        process: 'readonly',
        console: 'readonly',
        Buffer: 'readonly',
        setTimeout: 'readonly',
        clearTimeout: 'readonly',
        URL: 'readonly',
      },
    },
  },
  ...Object.keys(layers).map(rulesFor),
)
