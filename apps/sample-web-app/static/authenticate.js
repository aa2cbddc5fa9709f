// Lets the shopper confirm the payment with the bank, by 3-D Secure, where the page of an order asks for
// that: once by itself, and again with the button. Then the shop asks Stripe what came of it, and
// the page shows that (order.js).
(() => {
  const asked = new Set();
  let busy = false;

  const say = (text) => (document.querySelector("form[data-client-secret] [data-problem]") ?? {}).textContent = text;

  async function confirm(form) {
    if (busy) return;
    busy = true;
    say("");
    try {
      const stripe = Stripe(form.dataset.key);
      const clientSecret = form.dataset.clientSecret;
      const known = await stripe.retrievePaymentIntent(clientSecret);
      let error = known.error;
      if (known.paymentIntent?.status === "requires_action") ({ error } = await stripe.handleNextAction({ clientSecret }));
      if (error && ["api_connection_error", "api_error", "rate_limit_error", "authentication_error"].includes(error.type)) {
        say(error.message || "Your bank could not be asked. Please try again.");
        return;
      }
      await fetch(form.action, { method: "POST", redirect: "manual" });
      document.dispatchEvent(new Event("order-changed"));
    } catch {
      say("Your bank could not be asked. Check your connection, and try again.");
    } finally {
      busy = false;
    }
  }

  function look() {
    const form = document.querySelector("form[data-client-secret]");
    if (!form || asked.has(form.dataset.clientSecret)) return;
    asked.add(form.dataset.clientSecret);
    confirm(form);
  }

  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-client-secret]")) return;
    event.preventDefault();
    confirm(event.target);
  });
  document.addEventListener("order-shown", look);
  look();
})();
