// The stand-in's script, in place of Stripe.js: https://docs.stripe.com/js
//
// It offers what the shop uses: the Payment Element, ConfirmationTokens and next actions. It
// throws an IntegrationError where the documents say that a call is wrong, and where the
// stand-in knows better than to guess. We wrote it; it does not prove that Stripe.js behaves
// like this. It sets styles with element.style, so that a page needs no unsafe-inline.
(() => {
  "use strict";
  const origin = new URL(document.currentScript.src).origin;
  // How long a frame may take to answer. A frame that the page's policy blocks never does.
  const patience = 10_000;
  const elementsOptions = [
    "mode", "amount", "currency", "paymentMethodTypes", "captureMethod", "setupFutureUsage", "paymentMethodCreation",
    "onBehalfOf", "paymentMethodConfiguration", "paymentMethodOptions", "externalPaymentMethodTypes", "fonts", "locale",
    "appearance", "loader",
  ];
  const updatable = ["amount", "currency", "paymentMethodTypes", "captureMethod", "setupFutureUsage", "locale", "appearance", "mode"];
  const paymentOptions = [
    "layout", "defaultValues", "business", "paymentMethodOrder", "fields", "readOnly", "terms", "wallets", "applePay",
  ];

  class IntegrationError extends Error {
    constructor(message) {
      super(message);
      this.name = "IntegrationError";
    }
  }

  function known(options, names, where) {
    for (const name of Object.keys(options)) {
      if (!names.includes(name)) console.warn(`The stand-in for Stripe does not know the option ${name} of ${where}.`);
    }
  }

  // A frame of the stand-in in the page, and the messages between the two.
  class Frame {
    constructor(path, title, hello) {
      this.hello = hello;
      this.answers = new Map();
      this.last = 0;
      this.element = document.createElement("iframe");
      this.element.src = origin + path;
      this.element.title = title;
      this.element.style.border = "0";
      this.element.style.display = "block";
      this.element.style.width = "100%";
      this.receive = (message) => {
        if (message.source !== this.element.contentWindow || message.origin !== origin) return;
        const answer = this.answers.get(message.data.answers);
        if (answer) {
          this.answers.delete(message.data.answers);
          answer(message.data);
        } else if (message.data.event) {
          this.onevent?.(message.data);
        }
      };
      addEventListener("message", this.receive);
      this.ready = new Promise((resolve) => {
        this.element.addEventListener("load", () => this.ask("hello", this.hello).then(resolve), { once: true });
        setTimeout(() => resolve({ error: { type: "api_connection_error", message: "The frame did not load." } }), patience);
      });
    }

    post(message) {
      this.element.contentWindow?.postMessage(message, origin);
    }

    ask(what, details) {
      const number = ++this.last;
      return new Promise((resolve) => {
        this.answers.set(number, resolve);
        this.post({ ...details, number, what });
      });
    }

    remove() {
      removeEventListener("message", this.receive);
      this.element.remove();
      const error = { type: "api_error", message: "The frame was removed." };
      for (const answer of this.answers.values()) answer({ error });
      this.answers.clear();
    }
  }

  // The Payment Element: https://docs.stripe.com/js/element/payment_element
  class PaymentElement {
    constructor(elements) {
      this.elements = elements;
      this.listeners = new Map();
    }

    on(event, listener) {
      if (typeof listener !== "function") throw new IntegrationError(`on(${event}) needs a function.`);
      this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
      return this;
    }

    once(event, listener) {
      const first = (details) => {
        this.off(event, first);
        listener(details);
      };
      return this.on(event, first);
    }

    off(event, listener) {
      this.listeners.set(event, (this.listeners.get(event) ?? []).filter((one) => listener && one !== listener));
      return this;
    }

    tell(event, details) {
      for (const listener of this.listeners.get(event) ?? []) listener({ elementType: "payment", ...details });
    }

    mount(where) {
      if (this.destroyed) throw new IntegrationError("The element is destroyed.");
      const container = typeof where === "string" ? document.querySelector(where) : where;
      if (!(container instanceof HTMLElement)) throw new IntegrationError(`There is no element ${where} to mount into.`);
      this.unmount();
      const frame = new Frame("/js/element", "Secure payment input frame", { key: this.elements.key });
      this.frame = frame;
      frame.element.name = "standin-payment-element";
      frame.element.style.height = "13rem";
      frame.onevent = (message) => {
        if (message.event === "height") frame.element.style.height = `${message.height}px`;
        else this.tell(message.event, message.details);
      };
      container.replaceChildren(frame.element);
      frame.ready.then(({ error }) => {
        if (this.frame !== frame) return;
        this.error = error;
        if (error) this.tell("loaderror", { error });
        else this.tell("ready", {});
      });
      return this;
    }

    unmount() {
      this.frame?.remove();
      this.frame = undefined;
      this.elements.submitted = false;
      return this;
    }

    destroy() {
      this.unmount();
      this.destroyed = true;
      this.elements.payment = undefined;
      return this;
    }

    focus() {
      this.frame?.element.focus();
      this.frame?.post({ what: "focus" });
    }

    blur() {
      this.frame?.post({ what: "blur" });
    }

    clear() {
      this.frame?.post({ what: "clear" });
    }

    update(options = {}) {
      known(options, paymentOptions, "the Payment Element");
    }

    collapse() {}
  }

  // https://docs.stripe.com/js/elements_object/create_without_intent
  function valid(options) {
    if (options.mode !== "payment") throw new IntegrationError("elements() needs the mode payment: the stand-in has no other.");
    if (!Number.isInteger(options.amount) || options.amount < 1) {
      throw new IntegrationError("elements() needs an amount, a whole number of the currency's smallest unit, at least 1.");
    }
    if (typeof options.currency !== "string" || !/^[a-z]{3}$/.test(options.currency)) {
      throw new IntegrationError("elements() needs a currency of three lower-case letters.");
    }
    if (options.paymentMethodTypes !== undefined &&
      !(Array.isArray(options.paymentMethodTypes) && options.paymentMethodTypes.includes("card"))) {
      throw new IntegrationError("paymentMethodTypes is a list, in which the stand-in needs card.");
    }
    return options;
  }

  class Elements {
    constructor(key, options) {
      known(options, elementsOptions, "elements()");
      this.key = key;
      this.options = valid({ ...options });
      this.submitted = false;
    }

    create(type, options = {}) {
      if (type !== "payment") throw new IntegrationError(`The stand-in has no element ${type}.`);
      if (this.payment) throw new IntegrationError("There is a Payment Element already.");
      known(options, paymentOptions, "the Payment Element");
      this.payment = new PaymentElement(this);
      return this.payment;
    }

    getElement(type) {
      return (type === "payment" && this.payment) || null;
    }

    update(options = {}) {
      known(options, updatable, "elements.update()");
      this.options = valid({ ...this.options, ...options });
    }

    async fetchUpdates() {
      return {};
    }

    // https://docs.stripe.com/js/elements/submit
    async submit() {
      const frame = this.payment?.frame;
      if (!frame) throw new IntegrationError("elements.submit() needs a mounted Payment Element.");
      this.submitted = false;
      const loaded = await frame.ready;
      const { error } = loaded.error ? loaded : await frame.ask("submit");
      if (error) return { error };
      this.submitted = true;
      return { selectedPaymentMethod: "card" };
    }
  }

  // The challenge of 3-D Secure, over the page.
  async function challenge(key, clientSecret) {
    const before = document.activeElement;
    const frame = new Frame("/js/challenge", "Secure authentication frame", { key, clientSecret });
    frame.element.name = "standin-challenge";
    Object.assign(frame.element.style, { height: "18rem", maxWidth: "26rem", background: "white", borderRadius: "8px" });
    const cover = document.createElement("div");
    cover.setAttribute("role", "dialog");
    cover.setAttribute("aria-modal", "true");
    cover.setAttribute("aria-label", "Authenticate your payment");
    Object.assign(cover.style, {
      alignItems: "center", background: "rgba(0, 0, 0, 0.6)", display: "flex", inset: "0", justifyContent: "center", padding: "1rem",
      position: "fixed", zIndex: "2147483647",
    });
    cover.append(frame.element);
    document.body.append(cover);
    try {
      const loaded = await frame.ready;
      if (loaded.error) return loaded;
      frame.element.focus();
      return await frame.ask("challenge");
    } finally {
      frame.remove();
      cover.remove();
      before?.focus?.();
    }
  }

  class StandInStripe {
    #key;

    constructor(key) {
      this.#key = key;
    }

    elements(options = {}) {
      return new Elements(this.#key, options);
    }

    // https://docs.stripe.com/js/confirmation_tokens/create_confirmation_token
    async createConfirmationToken(options = {}) {
      const { elements, params = {} } = options;
      if (!(elements instanceof Elements)) throw new IntegrationError("createConfirmationToken() needs the elements.");
      if (!elements.payment?.frame) throw new IntegrationError("createConfirmationToken() needs a mounted Payment Element.");
      if (!elements.submitted) throw new IntegrationError("Call elements.submit() before createConfirmationToken().");
      known(params, ["payment_method_data", "payment_method_options", "shipping", "return_url", "setup_future_usage"], "params");
      const { amount, currency } = elements.options;
      const { error, token } = await elements.payment.frame.ask("token", { amount, currency, return_url: params.return_url });
      return error ? { error } : { confirmationToken: token };
    }

    // https://docs.stripe.com/js/payment_intents/retrieve_payment_intent
    async retrievePaymentIntent(clientSecret) {
      if (typeof clientSecret !== "string" || !/^pi_\w+_secret_\w+$/.test(clientSecret)) {
        throw new IntegrationError("The client secret is not one of an intent, pi_..._secret_...");
      }
      const query = new URLSearchParams({ key: this.#key, client_secret: clientSecret });
      try {
        const answer = await fetch(`${origin}/v1/payment_intents/${clientSecret.split("_secret_")[0]}?${query}`, { cache: "no-store" });
        const body = await answer.json();
        return answer.ok ? { paymentIntent: body } : { error: body.error };
      } catch {
        return { error: { type: "api_connection_error", message: "The stand-in for Stripe does not answer." } };
      }
    }

    // https://docs.stripe.com/js/payment_intents/handle_next_action
    // It throws an error for an intent in another state, as the document says.
    async handleNextAction(options = {}) {
      const found = await this.retrievePaymentIntent(options.clientSecret);
      if (found.error) return found;
      if (found.paymentIntent.status !== "requires_action") {
        throw new IntegrationError(`handleNextAction: the PaymentIntent is ${found.paymentIntent.status}, not requires_action.`);
      }
      if (found.paymentIntent.next_action.type !== "use_stripe_sdk") {
        return { error: { type: "invalid_request_error", message: "The stand-in does not redirect: confirm with use_stripe_sdk." } };
      }
      const { error, paymentIntent } = await challenge(this.#key, options.clientSecret);
      return error ? { error } : { paymentIntent };
    }
  }

  window.Stripe = function Stripe(key, options = {}) {
    if (typeof key !== "string" || key === "") throw new IntegrationError("Stripe() needs a publishable key.");
    if (!key.startsWith("pk_")) throw new IntegrationError("Stripe() needs a publishable key, which begins with pk_: never a secret key.");
    known(options, ["locale", "apiVersion", "stripeAccount", "betas", "developerTools"], "Stripe()");
    return new StandInStripe(key);
  };
})();
