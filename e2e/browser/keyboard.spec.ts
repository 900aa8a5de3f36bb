import type { Page } from '@playwright/test';
import { codeFor, expect, redeemed, test, untilAsked } from './person.ts';
import { issuer } from './server.ts';

/** Presses Tab until what has the focus is called name. */
async function tabTo(page: Page, name: string | RegExp) {
  for (let i = 0; i < 30; i++) {
    await page.keyboard.press('Tab');
    const focused = page.locator(':focus');
    if (await focused.and(page.getByRole('button', { name }).or(page.getByRole('checkbox', { name })).or(page.getByRole('link', { name }))).count()) {
      expect(await focused.evaluate((e) => {
        const { outlineStyle, outlineWidth } = getComputedStyle(e);
        return outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2;
      }), `the focus on ${name} can be seen`).toBe(true);
      return;
    }
  }
  throw new Error(`Tab never came to ${name}`);
}

test('sign-in and consent go by keyboard alone', async ({ page, app, email }) => {
  await page.goto(app.request());
  await expect(page.getByLabel('E-mail address')).toBeFocused();
  await page.keyboard.type(email);
  await page.keyboard.press('Enter');
  await expect(page.getByLabel('Six-digit code')).toBeFocused();
  await page.keyboard.type(await codeFor(email));
  await page.keyboard.press('Enter');
  await expect(page.getByRole('button', { name: 'Allow' })).toBeVisible();
  await tabTo(page, 'Add, complete and delete your to-dos');
  await page.keyboard.press('Space');
  await tabTo(page, 'Allow');
  await page.keyboard.press('Enter');
  expect((await redeemed(app)).scope).toBe('read:todos');
});

test('the first stop is the way past the header', async ({ page }) => {
  await page.goto(issuer() + '/nothing-here');
  await page.keyboard.press('Tab');
  await expect(page.getByRole('link', { name: 'Skip to content' })).toBeFocused();
  await expect(page.getByRole('link', { name: 'Skip to content' })).toBeInViewport();
  await page.keyboard.press('Enter');
  await expect(page.locator('main')).toBeFocused();
});

for (const javaScriptEnabled of [true, false]) {
  test.describe(javaScriptEnabled ? 'with JavaScript' : 'without JavaScript', () => {
    test.use({ javaScriptEnabled });

    for (const scope of ['read:todos write:todos', 'read:todos']) { // with the shortcuts and without
      test(`Enter in a box decides nothing and ticks nothing: ${scope}`, async ({ page, app, email }) => {
        await untilAsked(page, app, email, { scope });
        const box = page.getByRole('checkbox', { name: /^Read/ });
        await box.uncheck();
        await box.focus();
        const drawn = page.waitForResponse((r) => r.request().method() === 'POST');
        await page.keyboard.press('Enter');
        expect((await drawn).status()).toBe(200);
        await expect(box).not.toBeChecked();
        const write = page.getByRole('checkbox', { name: /^Add/ });
        if (await write.count()) await expect(write).toBeChecked();
        await expect(page.getByRole('button', { name: 'Allow' })).toBeVisible();
      });
    }
  });
}
