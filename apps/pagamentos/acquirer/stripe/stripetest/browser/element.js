// The card fields of the stand-in's Payment Element. They tell the page whether the card is
// complete, and nothing of what the shopper typed.
(() => {
  "use strict";
  const fields = ["number", "expiry", "cvc"].map((id) => document.getElementById(id));
  const digits = (id) => document.getElementById(id).value.replace(/\D/g, "");
  let page, pageOrigin, key, last;

  function luhn(number) {
    let sum = 0;
    for (let i = 0; i < number.length; i++) {
      const digit = Number(number[number.length - 1 - i]) * (i % 2 + 1);
      sum += digit > 9 ? digit - 9 : digit;
    }
    return sum % 10 === 0;
  }

  // Returns what is wrong with a field: a code and a message, or nothing.
  function wrong(id) {
    const value = digits(id);
    if (/[^\d\s/-]/.test(document.getElementById(id).value)) {
      return { code: `invalid_${id}`, message: "Type digits only." };
    }
    if (id === "number") {
      if (value.length < 13) return { code: "incomplete_number", message: "Your card number is incomplete." };
      if (value.length > 19 || !luhn(value)) return { code: "invalid_number", message: "Your card number is invalid." };
    } else if (id === "expiry") {
      if (value.length !== 4) return { code: "incomplete_expiry", message: "Your card's expiry date is incomplete." };
      const month = Number(value.slice(0, 2)), year = 2000 + Number(value.slice(2)), now = new Date();
      if (month < 1 || month > 12) return { code: "invalid_expiry", message: "Your card's expiry month is invalid." };
      if (year < now.getFullYear() || year === now.getFullYear() && month < now.getMonth() + 1) {
        return { code: "invalid_expiry_year_past", message: "Your card has expired." };
      }
      if (year > now.getFullYear() + 50) return { code: "invalid_expiry_year", message: "Your card's expiry year is invalid." };
    } else if (value.length < 3 || value.length > 4) {
      return { code: "incomplete_cvc", message: "Your card's security code is incomplete." };
    }
  }

  function tell(event, details) {
    page?.postMessage({ event, ...details }, pageOrigin);
  }

  function show(field, problem) {
    document.getElementById(`${field.id}-error`).textContent = problem?.message ?? "";
    if (problem) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
    height();
  }

  function height() {
    tell("height", { height: Math.ceil(document.body.getBoundingClientRect().height) + 4 });
  }

  function state() {
    return {
      collapsed: false, complete: fields.every((field) => !wrong(field.id)), empty: fields.every((field) => field.value === ""),
      value: { type: "card" },
    };
  }

  function change() {
    const details = state(), now = JSON.stringify(details);
    if (now !== last) tell("change", { details });
    last = now;
  }

  // Shows what is wrong in each field, and returns the first error.
  function check() {
    let first;
    for (const field of fields) {
      const problem = wrong(field.id);
      show(field, problem);
      if (problem && !first) {
        first = { type: "validation_error", ...problem };
        field.focus();
      }
    }
    return first;
  }

  async function call(method, path, body) {
    try {
      const answer = await fetch(path, {
        method, cache: "no-store", headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
        body: body && JSON.stringify(body),
      });
      const result = await answer.json();
      return answer.ok ? { result } : { error: result.error };
    } catch {
      return { error: { type: "api_connection_error", message: "The stand-in for Stripe does not answer." } };
    }
  }

  const serve = {
    async hello(message) {
      key = message.key;
      const { error } = await call("GET", "/js/account");
      height();
      last = JSON.stringify(state());
      return { error };
    },
    async submit() {
      return { error: check() };
    },
    async token({ amount, currency, return_url }) {
      const invalid = check();
      if (invalid) return { error: invalid };
      const card = { number: digits("number"), expiry: digits("expiry"), cvc: digits("cvc") };
      const { error, result } = await call("POST", "/js/confirmation_tokens", { card, amount, currency, return_url });
      return { error, token: result };
    },
    focus() {
      fields[0].focus();
    },
    blur() {
      document.activeElement.blur();
    },
    clear() {
      document.forms.card.reset();
      for (const field of fields) show(field);
      change();
    },
  };

  addEventListener("message", async (message) => {
    if (message.source !== parent || !serve[message.data.what]) return;
    page = message.source;
    pageOrigin = message.origin;
    const answer = await serve[message.data.what](message.data);
    if (message.data.number) page.postMessage({ ...answer, answers: message.data.number }, pageOrigin);
  });
  for (const field of fields) {
    field.addEventListener("input", () => {
      if (field.hasAttribute("aria-invalid") && !wrong(field.id)) show(field);
      change();
    });
    field.addEventListener("focus", () => tell("focus"));
    field.addEventListener("blur", () => {
      if (field.value !== "") show(field, wrong(field.id));
      tell("blur");
    });
  }
  document.forms.card.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("resize", height);
})();
