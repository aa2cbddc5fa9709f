// Takes the shopper's card with Stripe's Payment Element. When the order is placed, Stripe turns the card
// into a ConfirmationToken, and the form is sent with that. The shop never sees the card.
(() => {
  const form = document.querySelector("form.shop");
  const part = document.getElementById("card");
  if (!form || !part || !form.querySelector('input[name^="price-"]')) return; // there is nothing for sale
  const token = form.elements["card"];
  const name = form.elements["card-name"];
  const problem = part.querySelector("[data-problem]");
  const kept = part.querySelector("[data-kept]");
  let stripe, elements, element;
  let busy = false;

  const say = (text) => (problem.textContent = text);
  const unavailable = () =>
    say("The form for your card could not be loaded. Nothing was ordered: check your connection and load the page again.");

  // What is chosen costs at the prices on the page. Stripe demands a positive amount.
  function cost() {
    let amount = 0;
    let currency = "";
    for (const price of form.querySelectorAll('input[name^="price-"]')) {
      const [each, unit] = price.value.split(" ");
      const count = form.elements["quantity-" + price.name.slice("price-".length)];
      currency ||= unit.toLowerCase();
      if (count && /^[0-9]{1,3}$/.test(count.value.trim())) amount += Number(each) * Number(count.value);
    }
    return { amount: Math.max(amount, 100), currency };
  }

  function mount() {
    if (element) return true;
    try {
      stripe = Stripe(part.dataset.key);
      const theme = matchMedia("(prefers-color-scheme: dark)").matches ? "night" : "stripe";
      elements = stripe.elements({ mode: "payment", ...cost(), paymentMethodTypes: ["card"], appearance: { theme } });
      element = elements.create("payment");
      element.on("loaderror", unavailable);
      element.mount(part.querySelector("[data-element]"));
      return true;
    } catch {
      unavailable();
      return false;
    }
  }

  async function tokenise() {
    elements.update(cost());
    const checked = await elements.submit();
    if (checked.error) return checked;
    return stripe.createConfirmationToken({ elements });
  }

  form.addEventListener("input", () => elements?.update(cost()));

  form.addEventListener("submit", async (event) => {
    const button = event.submitter;
    if (button?.value !== "order" || token.value) return;
    event.preventDefault();
    if (busy || !mount()) return;
    busy = true;
    say("");
    button.setAttribute("aria-busy", "true");
    try {
      const { error, confirmationToken } = await tokenise();
      if (error) {
        say(error.message || "Your card was not accepted. Check what you entered.");
        part.focus();
        return;
      }
      const seen = confirmationToken.payment_method_preview?.card;
      token.value = confirmationToken.id;
      name.value = seen ? `${seen.brand} ${seen.last4}` : "";
      form.requestSubmit(button);
    } catch {
      say("Stripe does not answer. Nothing was ordered: please try again in a moment.");
    } finally {
      busy = false;
      button.removeAttribute("aria-busy");
    }
  });

  part.querySelector("[data-other]").addEventListener("click", () => {
    token.value = name.value = "";
    kept.hidden = true;
    if (mount()) element.focus();
  });

  if (!token.value) mount();
})();
