// Holds the sandbox to the official Node client: the calls of a purchase, lists page by page, signatures both ways.
//
// In: the sandbox's binary, and the folder where `stripe` is installed. Out: a line 'ok …' or 'FAILED …' for each check;
// 1 if any failed.
// Always holds: signatures are made and checked by the client itself.

import { spawn, spawnSync } from 'node:child_process';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { once } from 'node:events';

const [binary, folder] = process.argv.slice(2);
const required = createRequire(`${folder}/package.json`)('stripe');
const Stripe = required.default ?? required.Stripe ?? required;
const SECRET = 'whsec_judge';
let failures = 0;

function check(name, verdict, detail = '') {
  if (verdict) console.log(`ok node ${name}`);
  else {
    failures += 1;
    console.log(`FAILED node ${name} ${detail}`);
  }
}

async function refused(name, call, type, code) {
  try {
    await call();
    check(name, false, 'it was not refused');
  } catch (error) {
    check(name, error.type === type && (!code || error.code === code) && Boolean(error.requestId), `${error.type} ${error.code} ${error.message}`);
  }
}

const hooks = [];
const server = createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    hooks.push({ body: Buffer.concat(parts).toString(), header: request.headers['stripe-signature'] });
    response.end();
  });
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const address = `http://127.0.0.1:${server.address().port}/`;
const sandbox = spawn(binary, ['--seed', '8', '--connect-webhook', address, SECRET], { stdio: ['ignore', 'pipe', 'inherit'] });
const [line] = await once(sandbox.stdout, 'data');
const url = new URL(line.toString().trim());

try {
  const options = { host: url.hostname, port: Number(url.port), protocol: 'http', maxNetworkRetries: 0 };
  const stripe = new Stripe('sk_test_sandbox', options);
  const account = await stripe.v2.core.accounts.create({
    contact_email: 'o@example.com',
    dashboard: 'full',
    identity: { country: 'us' },
    configuration: { merchant: { capabilities: { card_payments: { requested: true } } } },
    include: ['configuration.merchant'],
  });
  check('v2 account', account.configuration.merchant.capabilities.card_payments.status === 'restricted', JSON.stringify(account));
  const link = await stripe.v2.core.accountLinks.create({
    account: account.id,
    use_case: { type: 'account_onboarding', account_onboarding: { refresh_url: 'http://x/a', return_url: 'http://x/b' } },
  });
  const page = (to, form) => fetch(to, { method: 'POST', body: new URLSearchParams(form), redirect: 'manual' });
  check('onboarding page', (await page(link.url, { choice: 'complete' })).status === 303);
  const at = { stripeAccount: account.id };
  const product = await stripe.products.create({ id: 'plan_gold', name: 'Gold', metadata: { plan_id: 'gold' } }, at);
  const price = await stripe.prices.create(
    { product: product.id, currency: 'usd', unit_amount: 1900, recurring: { interval: 'month' }, lookup_key: 'gold' },
    { ...at, idempotencyKey: 'node-1' },
  );
  const again = await stripe.prices.create(
    { product: product.id, currency: 'usd', unit_amount: 1900, recurring: { interval: 'month' }, lookup_key: 'gold' },
    { ...at, idempotencyKey: 'node-1' },
  );
  check('idempotency', again.id === price.id && again.lastResponse.headers['idempotent-replayed'] === 'true');
  const session = await stripe.checkout.sessions.create(
    {
      mode: 'subscription',
      line_items: [{ price: price.id, quantity: 1 }],
      success_url: 'http://x/ok?s={CHECKOUT_SESSION_ID}',
      subscription_data: { application_fee_percent: 2.5 },
    },
    at,
  );
  check('paid on the page', (await page(session.url, { choice: 'pay' })).headers.get('location') === `http://x/ok?s=${session.id}`);
  const done = await stripe.checkout.sessions.retrieve(session.id, { expand: ['subscription.latest_invoice.payments'] }, at);
  const subscription = done.subscription;
  check('subscription', subscription.status === 'active' && subscription.items.data[0].current_period_end > Date.now() / 1000, subscription.status);
  const intent = subscription.latest_invoice.payments.data[0].payment.payment_intent;
  const payments = await stripe.invoicePayments.list({ payment: { type: 'payment_intent', payment_intent: intent } }, at);
  check('from intent to invoice', payments.data[0].invoice === subscription.latest_invoice.id);
  const charge = (await stripe.paymentIntents.retrieve(intent, { expand: ['latest_charge'] }, at)).latest_charge;
  const refund = await stripe.refunds.create({ charge: charge.id, amount: 100 }, at);
  check('refund', refund.status === 'succeeded' && (await stripe.refunds.retrieve(refund.id, {}, at)).charge === charge.id, refund.status);
  const buyer = await stripe.customers.create({ payment_method: 'pm_card_createDispute' }, at);
  const card = (await stripe.paymentMethods.list({ customer: buyer.id }, at)).data[0];
  await stripe.customers.update(buyer.id, { invoice_settings: { default_payment_method: card.id } }, at);
  const disputed = await stripe.subscriptions.create(
    { customer: buyer.id, items: [{ price: price.id }], expand: ['latest_invoice.payments'] },
    at,
  );
  const paid = disputed.latest_invoice.payments.data[0].payment.payment_intent;
  const dispute = (await stripe.disputes.list({ payment_intent: paid }, at)).data[0];
  const of = await stripe.invoicePayments.list({ payment: { type: 'payment_intent', payment_intent: dispute.payment_intent } }, at);
  check('from dispute to invoice', of.data[0].invoice === disputed.latest_invoice.id && dispute.status === 'needs_response', dispute.status);
  const won = await stripe.disputes.update(dispute.id, { evidence: { uncategorized_text: 'winning_evidence' } }, at);
  check('dispute won', won.status === 'won', won.status);
  const canceled = await stripe.subscriptions.cancel(subscription.id, {}, at);
  check('canceled', canceled.status === 'canceled');
  const events = [];
  for await (const event of stripe.events.list({ limit: 3 }, at)) events.push(event.id);
  check('pages of events', events.length > 9 && new Set(events).size === events.length, events.length);
  await refused('a missing object', () => stripe.prices.retrieve('price_x', {}, at), 'StripeInvalidRequestError', 'resource_missing');
  await refused('an unknown parameter', () => stripe.products.create({ name: 'a', nmae: 'b' }, at), 'StripeInvalidRequestError', 'parameter_unknown');
  const deadline = Date.now() + 20000;
  while (hooks.length < events.length + 1 && Date.now() < deadline) await new Promise((go) => setTimeout(go, 50));
  let verified = 0;
  for (const { body, header } of hooks) {
    const event = stripe.webhooks.constructEvent(body, header, SECRET);
    if (event.account === account.id) verified += 1;
  }
  check('every signature verified by the client', verified === hooks.length && verified >= events.length, `${verified} of ${hooks.length}`);
  const payload = '{"id":"evt_1"}';
  const made = stripe.webhooks.generateTestHeaderString({ payload, secret: 'whsec_test', timestamp: 1700000000 });
  for (const [secret, wanted] of [['whsec_test', 0], ['whsec_other', 1]]) {
    const found = spawnSync(binary, ['--verify', secret, made, '1700000000'], { input: payload });
    check(`the client's signature at the sandbox, ${secret}`, found.status === wanted, `${made} ${found.status}`);
  }
} catch (error) {
  check('the way through', false, error.stack);
} finally {
  sandbox.kill();
  server.close();
}
process.exit(failures ? 1 : 0);
