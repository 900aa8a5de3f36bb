// What the suite leaves behind: a folder for each scenario with its checks.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The suite's program. */
export const cli = 'node_modules/@modelcontextprotocol/conformance/dist/index.js';

/** Reads every scenario of a folder: its name, how many checks passed, which failed. */
export function read(folder) {
  return readdirSync(folder).sort().map((name) => {
    const checks = JSON.parse(readFileSync(join(folder, name, 'checks.json'), 'utf8'));
    const failed = checks.filter((check) => !['SUCCESS', 'INFO', 'SKIPPED'].includes(check.status));
    return {
      scenario: name.replace(/^(authorization-server|server)-/, '').replace(/-\d{4}-\d\d-\d\dT.*$/, ''),
      passed: checks.filter((check) => check.status === 'SUCCESS').length,
      failed: [...new Set(failed.map((check) => check.id))].sort(),
    };
  });
}

/** The expected failures of a revision, each with its reason. */
export function reasons(revision) {
  const text = readFileSync(`expected-failures-${revision}.yml`, 'utf8');
  return [...text.matchAll(/^ {2}- (\S+) # (.+)$/gm)].map(([, scenario, reason]) => [scenario, reason]);
}
