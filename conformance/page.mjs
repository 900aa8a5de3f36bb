// docs/conformance.md: what the suite saw.
import { readFileSync } from 'node:fs';
import { reasons } from './results.mjs';

/** The page of all runs. It says nothing that differs from run to run. */
export function render(runs) {
  const { version } = JSON.parse(readFileSync('node_modules/@modelcontextprotocol/conformance/package.json', 'utf8'));
  const lines = [
    '# Conformance',
    '',
    `Written by \`make conformance\` from a run of the official suite of the Model Context Protocol, ${version}; do not edit.`,
    'Real clients are in [clients-tested.md](clients-tested.md).',
    '',
    'The suite looks at Postern as an authorization server. It looks at the fixture server of the Go SDK twice, bare and with',
    '`guard` in front of it (`examples/gateway`, and a proxy that adds the token, which the suite cannot): guard must add no',
    'failure and leave out no check.',
    '',
    '| what | scenarios | checks passed | scenarios that fail |',
    '|---|---|---|---|',
    ...runs.map(({ name, scenarios }) => {
      const failing = scenarios.filter((s) => s.failed.length);
      return `| ${name} | ${scenarios.length} | ${sum(scenarios, (s) => s.passed)} | ${failing.length || 'none'} |`;
    }),
    '',
    '## Expected failures',
    '',
    'Of the fixture itself, with and without guard. The suite does not count them for the revision.',
    '',
  ];
  for (const revision of ['2025-11-25', '2026-07-28']) {
    for (const [scenario, reason] of reasons(revision)) lines.push(`* \`${scenario}\`, ${revision}: ${reason}`);
  }
  for (const { name, scenarios } of runs) {
    if (name.includes('fixture') && !name.includes('guard')) continue;
    lines.push('', `## ${name}`, '', '| scenario | checks | |', '|---|---|---|',
      ...scenarios.map((s) => `| ${s.scenario} | ${s.passed} | ${s.failed.length ? 'expected failure' : 'passed'} |`));
  }
  return lines.join('\n') + '\n';
}

const sum = (list, of) => list.reduce((all, one) => all + of(one), 0);
