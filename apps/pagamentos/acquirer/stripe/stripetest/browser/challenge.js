// The challenge of 3-D Secure: the shopper completes or fails it.
(() => {
  "use strict";
  const buttons = [...document.querySelectorAll("button")];
  let key, clientSecret, answer;

  async function end(how) {
    for (const button of buttons) button.disabled = true;
    try {
      const answered = await fetch(`/js/challenge/${how}`, {
        method: "POST", headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
        body: JSON.stringify({ client_secret: clientSecret }),
      });
      const body = await answered.json();
      if (!answered.ok) answer({ error: body.error });
      else if (body.last_payment_error) answer({ error: { ...body.last_payment_error, payment_intent: body } });
      else answer({ paymentIntent: body });
    } catch {
      answer({ error: { type: "api_connection_error", message: "The stand-in for Stripe does not answer." } });
    }
  }

  for (const button of buttons) button.addEventListener("click", () => end(button.id));
  addEventListener("message", (message) => {
    if (message.source !== parent) return;
    const reply = (result) => parent.postMessage({ ...result, answers: message.data.number }, message.origin);
    if (message.data.what === "hello") {
      ({ key, clientSecret } = message.data);
      reply({});
    } else if (message.data.what === "challenge") {
      answer = reply;
      for (const button of buttons) button.disabled = false;
      buttons[0].focus();
    }
  });
})();
