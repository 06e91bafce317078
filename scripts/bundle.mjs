// Puts what a process loads at its start into few files: finding, reading and linking 500 modules one by one was half of
// kithd's start. Runs after the compiler, and needs nothing but the sources.
//   dist/lib/cli/main.js, daemon/main.js and the workers   in place of what the compiler wrote there
//   dist/lib/bundle/                                       what several of them share, or load only when it is needed
//   dist/test/faults/fault-child.js                        with its worker, for test/faults
//   dist/test/node_modules/                                tap as the compiled tests find it: each is a process that loads it
// Every other module stays as the compiler wrote it; tests import those. All code lies in folders of dist/lib, one deep, so that
// a path relative to import.meta.url leads to the same file from a module and from a bundle: '../daemon/main.js', not './main.js'.
import { build } from 'esbuild'
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const shared = 'dist/lib/bundle'

/** Found beside their native parts, by the path of their own files. */
const external = ['lmdb', 'sodium-native', 'udx-native', 'fuse-native']
const common = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  logLevel: 'warning',
  metafile: true,
  // Packages in CommonJS ask for Node's own modules by require().
  banner: {
    js: `import { createRequire as requireOf } from 'node:module';const require = requireOf(import.meta.url);`,
  },
}

const { metafile } = await build({
  ...common,
  entryPoints: [
    'lib/cli/main.ts',
    'lib/daemon/main.ts',
    'lib/store/seal-worker.ts',
    'lib/mount/browse-worker.ts',
  ],
  outbase: 'lib',
  outdir: 'dist/lib',
  splitting: true,
  chunkNames: 'bundle/[name]-[hash]',
  external,
  // For traces by the sources: node --enable-source-maps
  sourcemap: 'linked',
  sourcesContent: false,
})

// Chunks are named by their content: those of earlier builds are left over.
const written = new Set(Object.keys(metafile.outputs))
for (const name of readdirSync(join(root, shared))) {
  if (!written.has(`${shared}/${name}`)) rmSync(join(root, shared, name))
}

// Of the programs that tests start, the one that is started for each place where it may be killed.
await build({
  ...common,
  entryPoints: {
    'faults/fault-child': 'test/faults/fault-child.ts',
    'store/seal-worker': 'lib/store/seal-worker.ts',
  },
  outdir: 'dist/test',
  external,
})

// tap leaves out of the traces that it prints what lies in a folder of this name.
const tests = 'dist/test/node_modules'
await build({
  ...common,
  entryPoints: ['node_modules/tap/dist/esm/index.js'],
  outfile: join(tests, '@tapjs/tap.js'),
})
mkdirSync(join(root, tests, 'tap'), { recursive: true })
const description = { name: 'tap', type: 'module', exports: './index.js' }
writeFileSync(join(root, tests, 'tap/package.json'), JSON.stringify(description))
writeFileSync(
  join(root, tests, 'tap/index.js'),
  "export * from '../@tapjs/tap.js'\nexport { default } from '../@tapjs/tap.js'\n",
)
