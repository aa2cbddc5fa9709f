// Lets the shopper confirm the payment with the bank, by 3-D Secure, where the page of an order asks for
// that: once by itself, and again with the button. The shop then asks Stripe what came of it.
(() => {
  const asked = new Set();
  let busy = false;

  async function confirm(form) {
    const problem = form.querySelector("[data-problem]");
    if (busy) return;
    busy = true;
    problem.textContent = "";
    try {
      const { error } = await Stripe(form.dataset.key).handleNextAction({ clientSecret: form.dataset.clientSecret });
      if (error && error.code !== "payment_intent_authentication_failure") {
        problem.textContent = error.message || "Your bank could not be asked. Please try again.";
        return;
      }
      form.submit();
    } catch {
      problem.textContent = "Your bank could not be asked. Check your connection, and try again.";
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
