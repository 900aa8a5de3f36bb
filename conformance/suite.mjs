// Lets the conformance suite of the Model Context Protocol look at Postern and
// at guard: node suite.mjs FOLDER RESULTS PAGE [check], where FOLDER has the
// programs and takes the data. PAGE is written with what was seen, or with check
// compared. Ends with 0 if every check passed that is not among the expected
// failures.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lookAtIssuer } from './authorization.mjs';
import { lookAtGuard } from './guarded.mjs';
import { render } from './page.mjs';
import { freePort, start } from './programs.mjs';

const [folder, results, page, check] = process.argv.slice(2);
const [port, todoPort] = [await freePort(), await freePort()];
const postern = {
  issuer: `http://localhost:${port}`,
  resource: `http://localhost:${todoPort}/mcp`,
  /** Runs a set-up command beside the server and returns what it prints. */
  command: (...args) => JSON.parse(execFileSync(join(folder, 'postern'), [...args, '--json'], { cwd: folder, encoding: 'utf8' })),
};
const end = await start([`${postern.issuer}/readyz`, `http://localhost:${todoPort}/healthz`],
  join(folder, 'postern'), ['dev', '--', join(folder, 'todo')],
  { cwd: folder, env: { ...process.env, POSTERN_PORT: String(port), TODO_PORT: String(todoPort) } });

const runs = [];
try {
  runs.push(await lookAtIssuer(postern, results));
  runs.push(...(await lookAtGuard(postern, folder, results)));
} finally {
  await end();
}
for (const run of runs) {
  for (const { scenario, passed, failed } of run.scenarios) {
    console.log(`${failed.length ? 'FAILURE' : 'SUCCESS'}  ${run.name}: ${scenario}${failed.length ? ` (${failed.join(', ')})` : ''}, ${passed} checks`);
  }
}
const wrong = runs.flatMap((run) => run.wrong);
if (check && readFileSync(page, 'utf8') !== render(runs)) wrong.push(`${page} is not what was seen. Run make conformance.`);
if (!check && wrong.length === 0) writeFileSync(page, render(runs));
for (const sentence of wrong) console.log(sentence);
process.exit(wrong.length === 0 ? 0 : 1);
