// Administrators of the dashboard: the one-time link, a passkey in a virtual
// authenticator, a password with an authenticator app.
import type { Page } from '@playwright/test';
import { createHmac } from 'node:crypto';
import { expect, newAddress } from './person.ts';
import { postern } from './server.ts';

export const password = 'correct horse battery';

/** A one-time link for another administrator of the running server. */
export async function link(email: string): Promise<string> {
  const { link } = JSON.parse(await postern('admin', 'create', email, '--json'));
  return link;
}

/** The code that an authenticator app shows (RFC 6238), steps of 30 s away. */
export function code(secret: string, steps = 0): string {
  const bits = [...secret.replaceAll(' ', '')].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g)!.map((b) => parseInt(b, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps));
  const mac = createHmac('sha1', key).update(counter).digest();
  return ((mac.readUInt32BE(mac[19] & 15) & 0x7fffffff) % 1_000_000).toString().padStart(6, '0');
}

/** Chooses password and app on the page that asks how one signs in; the app's secret. */
export async function choosePassword(page: Page, email?: string): Promise<string> {
  if (email) await page.getByLabel('E-mail address').fill(email);
  const field = page.getByLabel('Password', { exact: true });
  if (!(await field.isVisible())) await page.getByText('Use a password and an authenticator app', { exact: true }).click();
  await field.fill(password);
  const secret = (await page.locator('#totp-secret').textContent())!;
  await page.getByLabel('Six-digit code').fill(code(secret));
  await page.getByRole('button', { name: 'Use password and app' }).click();
  return secret;
}

/**
 * Makes the page's browser one of a new administrator, who is signed in to the
 * dashboard. Returns address and secret of the authenticator app.
 */
export async function administrator(page: Page): Promise<{ email: string; secret: string }> {
  const email = newAddress();
  await page.goto(await link(email));
  await expect(page.getByRole('heading', { name: 'Choose how you sign in' })).toBeVisible();
  const secret = await choosePassword(page);
  await expect(page).not.toHaveURL(/setup/);
  return { email, secret };
}

/** Gives the page's browser a device with passkeys; ends with the page. */
export async function passkeyDevice(page: Page) {
  const device = await page.context().newCDPSession(page);
  await device.send('WebAuthn.enable');
  const { authenticatorId } = await device.send('WebAuthn.addVirtualAuthenticator', {
    options: {
      protocol: 'ctap2',
      transport: 'internal',
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
      automaticPresenceSimulation: true,
    },
  });
  return {
    /** Whether its owner proves who they are. */
    owner: (isUserVerified: boolean) => device.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified }),
  };
}
