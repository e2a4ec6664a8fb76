// What @mapbox/geojsonhint and @placemarkio/check-geojson say of the files that are named, as JSON.
import { readFileSync } from 'node:fs';
import { check } from '@placemarkio/check-geojson';
import geojsonhint from '@mapbox/geojsonhint';

const said = {};
for (const file of process.argv.slice(2)) {
  const text = readFileSync(file, 'utf8');
  const problems = geojsonhint.hint(text, { precisionWarning: false }).map((hint) => `geojsonhint: ${hint.message}`);
  try {
    check(text);
  } catch (error) {
    problems.push(...(error.issues ?? [error]).map((issue) => `check-geojson: ${issue.message}`));
  }
  said[file] = problems;
}
console.log(JSON.stringify(said));
