// Keeps this package's copies of the wire definitions equal to the ones in
// api/, which are the source. A package cannot reach outside its own folder
// once it is installed elsewhere, hence the copies.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const files = ['flowctl/control_plane.proto', 'flowctl/v1/control_plane.proto'];
const check = process.argv.includes('--check');

for (const file of files) {
  const source = readFileSync(fileURLToPath(new URL(`../../../api/${file}`, import.meta.url)), 'utf8');
  const copy = fileURLToPath(new URL(`../proto/${file}`, import.meta.url));
  if (!check) {
    writeFileSync(copy, source);
  } else if (readFileSync(copy, 'utf8') !== source) {
    console.error(`proto/${file} differs from api/${file}: run "npm run sync"`);
    process.exitCode = 1;
  }
}
