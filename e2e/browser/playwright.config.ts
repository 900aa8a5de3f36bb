// The tests of what people see, in the Chromium of this machine: `npm test`.
// server.ts starts the real programs, app.ts plays a connected app, and
// person.ts holds what a person does and what every page owes. Pictures of all
// pages are in test-results/pages afterwards.
import { defineConfig } from '@playwright/test';

export default defineConfig({
  globalSetup: './server.ts',
  outputDir: 'test-results',
  timeout: 60_000,
  expect: { timeout: 10_000 },
  workers: 2,
  fullyParallel: true,
  forbidOnly: !!process.env.CI,
  use: {
    locale: 'en-GB',
    timezoneId: 'UTC',
    contextOptions: { reducedMotion: 'reduce' },
    launchOptions: {
      executablePath: process.env.POSTERN_CHROMIUM || '/usr/bin/chromium',
      chromiumSandbox: process.getuid?.() !== 0, // Chromium refuses it as root
      args: [
        '--disable-gpu',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        '--disable-quic',
      ],
    },
  },
  projects: [
    { name: 'phone', grepInvert: /@once|@inspector/, use: { viewport: { width: 360, height: 780 }, hasTouch: true, isMobile: true } },
    { name: 'desktop', grepInvert: process.env.POSTERN_INSPECTOR ? undefined : /@inspector/, use: { viewport: { width: 1280, height: 800 } } },
  ],
});
