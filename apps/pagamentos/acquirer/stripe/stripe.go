// Package stripe is the acquirer Stripe. A payment is a PaymentIntent, which is created, and
// then confirmed with the ConfirmationToken or the PaymentMethod that the shop's page obtained
// for the card: https://docs.stripe.com/payments/finalize-payments-on-the-server
package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v84"
	"github.com/stripe/stripe-go/v84/webhook"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
)

// Name of this acquirer.
const Name = "stripe"

const (
	// replayed is the header that Stripe sets on a repeated answer.
	replayed    = "Idempotent-Replayed"
	intentsPath = "/v1/payment_intents"
	refundsPath = "/v1/refunds"
	// orderID is the key of a PaymentIntent's metadata.
	orderID = "order_id"
	// refundKey is the key of a partial refund's metadata: the idempotency key of the call that made it.
	refundKey = "refund_key"
	// A card token is a ConfirmationToken or a PaymentMethod.
	confirmationToken = "ctoken_"
)

// Reasons for a decline that are not Stripe's own decline codes.
const (
	authenticationRequired = "authentication_required"
	authenticationFailed   = "authentication_failed"
	invalidToken           = "invalid_token"
)

// Settings are the account's settings.
type Settings struct {
	APIKey  string // STRIPE_API_KEY: a secret
	APIBase string // STRIPE_API_BASE: URL of the API; "" means Stripe's own
	// WebhookSecret (STRIPE_WEBHOOK_SECRET) is the signing secret of the webhook endpoint; "":
	// there is none, and the service asks Stripe itself from time to time.
	WebhookSecret string
}

// ReadSettings reads the settings. No error quotes the key.
func ReadSettings(env *config.Reader) Settings {
	settings := Settings{
		APIKey: env.Text("STRIPE_API_KEY", ""), APIBase: env.HTTPURL("STRIPE_API_BASE"), WebhookSecret: env.Text("STRIPE_WEBHOOK_SECRET", ""),
	}
	switch {
	case settings.APIKey == "":
		env.Reject("STRIPE_API_KEY", "required with ACQUIRER=stripe: the secret key of the account")
	case !strings.HasPrefix(settings.APIKey, "sk_") && !strings.HasPrefix(settings.APIKey, "rk_"):
		env.Reject("STRIPE_API_KEY", "is not a secret or restricted key, which begin with sk_ or rk_")
	}
	if settings.WebhookSecret != "" && !strings.HasPrefix(settings.WebhookSecret, "whsec_") {
		env.Reject("STRIPE_WEBHOOK_SECRET", "is not the signing secret of a webhook endpoint, which begins with whsec_")
	}
	return settings
}

// String shows the settings without the secrets.
func (s Settings) String() string { return "{APIBase:" + s.APIBase + "}" }

// GoString is String, so that %#v does not show the key either.
func (s Settings) GoString() string { return s.String() }

// Stripe implements acquirer.Acquirer. It uses a stripe.Backend, because a stripe.Client
// links the whole API and adds 6 MB to the program for a few operations.
type Stripe struct {
	api           stripe.Backend
	key           string
	webhookSecret string
}

// New returns a Stripe whose calls take at most timeout. It does not retry: the service
// repeats calls with the same key.
func New(settings Settings, timeout time.Duration, provider trace.TracerProvider) *Stripe {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: timeout,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       60 * time.Second,
	}
	backend := &stripe.BackendConfig{
		HTTPClient: &http.Client{
			Timeout: timeout,
			// Record spans, but do not send trace context to Stripe.
			Transport: otelhttp.NewTransport(transport, otelhttp.WithTracerProvider(provider),
				otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator())),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		EnableTelemetry: new(false),
		// Do not log: Stripe's messages quote tokens.
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
		MaxNetworkRetries: new(int64(0)),
	}
	if settings.APIBase != "" {
		backend.URL = new(strings.TrimSuffix(settings.APIBase, "/"))
	}
	return &Stripe{stripe.GetBackendWithConfig(stripe.APIBackend, backend), settings.APIKey, settings.WebhookSecret}
}

// Name implements acquirer.Acquirer.
func (s *Stripe) Name() string { return Name }

// call sends a request, with the idempotency key unless it is "".
func (s *Stripe) call(ctx context.Context, method, path, key string, params stripe.ParamsContainer, into stripe.LastResponseSetter) error {
	common := params.GetParams()
	common.Context = ctx
	if key != "" {
		common.IdempotencyKey = &key
	}
	return s.api.Call(method, path, s.key, params, into)
}

// post creates or changes an intent.
func (s *Stripe) post(ctx context.Context, path, key string, params stripe.ParamsContainer) (*stripe.PaymentIntent, error) {
	intent := &stripe.PaymentIntent{}
	err := s.call(ctx, http.MethodPost, path, key, params, intent)
	return intent, err
}

// Reference implements acquirer.Acquirer. Stripe chooses the references.
func (s *Stripe) Reference(uuid.UUID) string { return "" }

// Prepare implements acquirer.Acquirer. It creates an intent that is not confirmed. Stripe
// may drop the key after 24 hours (https://docs.stripe.com/api/idempotent_requests): then
// the order has two intents, of which at most one is ever confirmed.
func (s *Stripe) Prepare(ctx context.Context, key string, charge acquirer.Charge) (acquirer.Result, error) {
	if charge.MayExist {
		intent, err := s.find(ctx, charge.OrderID)
		if err != nil || intent != nil {
			return s.result(intent, err)
		}
		// Earlier versions confirmed the intent in the call that created it, with this key. If
		// that call arrived, Stripe refuses this one as an idempotency_error, until the search
		// finds the intent, which takes some time.
		key = charge.OrderID.String() + ":authorise"
	}
	method := stripe.PaymentIntentCaptureMethodManual
	if charge.Capture {
		method = stripe.PaymentIntentCaptureMethodAutomatic
	}
	params := func() *stripe.PaymentIntentCreateParams {
		params := &stripe.PaymentIntentCreateParams{
			Amount:             new(charge.Amount.Amount),
			Currency:           new(strings.ToLower(charge.Amount.Currency)),
			PaymentMethodTypes: []*string{new("card")},
			CaptureMethod:      new(string(method)),
			Metadata:           map[string]string{orderID: charge.OrderID.String()},
		}
		if !strings.HasPrefix(charge.CardToken, confirmationToken) { // which only a confirmation takes
			params.PaymentMethod = new(charge.CardToken)
		}
		return params
	}
	intent, err := s.post(ctx, intentsPath, key, params())
	if repeats(err) && !charge.MayExist {
		// Stripe repeats this error as long as it keeps the key. Another intent does no harm.
		intent, err = s.post(ctx, intentsPath, key+":"+uuid.NewString(), params())
	}
	return s.result(intent, err)
}

// repeats tells whether Stripe failed halfway through the first call with this key, and
// repeats that answer.
func repeats(err error) bool {
	failure := apiError(err)
	return failure != nil && failure.HTTPStatusCode >= http.StatusInternalServerError &&
		failure.LastResponse != nil && failure.LastResponse.Header.Get(replayed) == "true"
}

// Authorise implements acquirer.Acquirer. It confirms the intent.
func (s *Stripe) Authorise(ctx context.Context, key string, charge acquirer.Charge) (acquirer.Result, error) {
	// Earlier versions used the key itself, and the key with the suffix :confirm, for other calls.
	intent, err := s.change(ctx, "confirm", key+":confirm:2", charge.Reference, func() stripe.ParamsContainer {
		params := &stripe.PaymentIntentConfirmParams{UseStripeSDK: new(true)}
		if strings.HasPrefix(charge.CardToken, confirmationToken) {
			params.ConfirmationToken = new(charge.CardToken)
		}
		return params
	})
	before := unexpected(err)
	if before == nil && strings.HasPrefix(charge.CardToken, confirmationToken) && refusesToken(err) {
		// An earlier call has used the token. Or it is unknown, expired, or another order's, which stays so.
		var shown error
		if before, shown = s.show(ctx, charge.Reference); shown != nil {
			return acquirer.Result{}, explain("charging", shown)
		}
		if unconfirmed(before) { // and must stay so: a call that was delayed could still confirm it
			return s.abandon(ctx, charge, acquirer.Result{Reference: before.ID, State: acquirer.Declined, DeclineReason: invalidToken})
		}
	}
	if before != nil {
		intent, err = before, nil // confirmed or cancelled before
	}
	result, err := s.result(intent, err)
	if result.State == acquirer.Prepared { // the confirmation did not take effect
		return acquirer.Result{}, fmt.Errorf("stripe: charging: the intent is not confirmed: %w", acquirer.ErrUnknown)
	}
	return result, err
}

// unconfirmed tells whether an intent has not been confirmed yet. One whose card was declined
// needs another card too, but says why.
func unconfirmed(intent *stripe.PaymentIntent) bool {
	return intent.Status == stripe.PaymentIntentStatusRequiresConfirmation ||
		intent.Status == stripe.PaymentIntentStatusRequiresPaymentMethod && intent.LastPaymentError == nil
}

// Find implements acquirer.Acquirer. It cancels an intent whose shopper failed to authenticate:
// whoever has the client secret could still confirm it with another card.
func (s *Stripe) Find(ctx context.Context, charge acquirer.Charge) (acquirer.Result, error) {
	intent, err := s.show(ctx, charge.Reference)
	result, err := s.result(intent, err)
	if result.State == acquirer.Voided && intent.LastPaymentError != nil { // by the call before
		result.State, result.DeclineReason = acquirer.Declined, reason(intent.LastPaymentError)
	}
	switch {
	case result.State == acquirer.Prepared:
		return acquirer.Result{}, fmt.Errorf("stripe: charging: the intent is %s: %w", intent.Status, acquirer.ErrUnknown)
	case result.State == acquirer.Declined && intent.Status != stripe.PaymentIntentStatusCanceled:
		return s.abandon(ctx, charge, result)
	}
	return result, err
}

// abandon cancels a declined charge and returns the result, or that the charge was captured meanwhile.
func (s *Stripe) abandon(ctx context.Context, charge acquirer.Charge, result acquirer.Result) (acquirer.Result, error) {
	switch err := s.cancel(ctx, charge.OrderID.String()+":abandon", charge.Reference); {
	case errors.Is(err, acquirer.ErrCaptured):
		return acquirer.Result{Reference: charge.Reference, State: acquirer.Captured}, nil
	case err != nil:
		return acquirer.Result{}, explain("cancelling a declined charge", err)
	}
	return result, nil
}

// refusesToken tells whether Stripe does not confirm an intent for a reason that lies in the request,
// of which only the token is not ours.
func refusesToken(err error) bool {
	failure := apiError(err)
	return failure != nil && failure.Type == stripe.ErrorTypeInvalidRequest && failure.Code != stripe.ErrorCodeLockTimeout &&
		(failure.HTTPStatusCode == http.StatusBadRequest || failure.HTTPStatusCode == http.StatusNotFound)
}

// change confirms, captures or cancels an intent. Where Stripe failed halfway through the first
// call, and repeats that answer for the key, change reads the intent; if the call had no effect,
// it calls again with another key, which is safe: an intent is confirmed, captured and cancelled
// at most once.
func (s *Stripe) change(
	ctx context.Context, verb, key, reference string, params func() stripe.ParamsContainer,
) (*stripe.PaymentIntent, error) {
	path := stripe.FormatURLPath(intentsPath+"/%s/"+verb, reference)
	intent, err := s.post(ctx, path, key, params())
	if !repeats(err) {
		return intent, err
	}
	if intent, err = s.show(ctx, reference); err != nil {
		return intent, err
	}
	before := map[string][]stripe.PaymentIntentStatus{
		"capture": {stripe.PaymentIntentStatusRequiresCapture},
		"cancel": {
			stripe.PaymentIntentStatusRequiresConfirmation, stripe.PaymentIntentStatusRequiresPaymentMethod,
			stripe.PaymentIntentStatusRequiresAction, stripe.PaymentIntentStatusRequiresCapture,
		},
	}
	if slices.Contains(before[verb], intent.Status) || verb == "confirm" && unconfirmed(intent) {
		return s.post(ctx, path, key+":"+uuid.NewString(), params())
	}
	return intent, nil
}

// show reads an intent.
func (s *Stripe) show(ctx context.Context, reference string) (*stripe.PaymentIntent, error) {
	intent := &stripe.PaymentIntent{}
	err := s.call(ctx, http.MethodGet, stripe.FormatURLPath(intentsPath+"/%s", reference), "", &stripe.PaymentIntentRetrieveParams{}, intent)
	return intent, err
}

// result converts Stripe's answer to a result.
func (s *Stripe) result(intent *stripe.PaymentIntent, err error) (acquirer.Result, error) {
	if err != nil {
		return declined(err)
	}
	result := acquirer.Result{Reference: intent.ID}
	switch {
	case unconfirmed(intent):
		result.State = acquirer.Prepared
	case intent.Status == stripe.PaymentIntentStatusSucceeded:
		result.State = acquirer.Captured
	case intent.Status == stripe.PaymentIntentStatusRequiresCapture:
		result.State = acquirer.Authorised
	case intent.Status == stripe.PaymentIntentStatusRequiresPaymentMethod:
		result.State, result.DeclineReason = acquirer.Declined, reason(intent.LastPaymentError)
	case intent.Status == stripe.PaymentIntentStatusCanceled:
		result.State = acquirer.Voided
	case intent.Status == stripe.PaymentIntentStatusRequiresAction && intent.ClientSecret != "":
		result.State, result.ClientSecret = acquirer.ActionRequired, intent.ClientSecret
	default:
		return acquirer.Result{}, fmt.Errorf("stripe: charging: the intent is %s: %w", intent.Status, acquirer.ErrUnknown)
	}
	return result, nil
}

// declined converts an error to a result if the error means that this card will never be
// charged.
func declined(err error) (acquirer.Result, error) {
	failure := apiError(err)
	if failure == nil {
		return acquirer.Result{}, explain("charging", err)
	}
	result := acquirer.Result{State: acquirer.Declined}
	if failure.PaymentIntent != nil {
		result.Reference = failure.PaymentIntent.ID
	}
	switch {
	case failure.Type == stripe.ErrorTypeCard:
		result.DeclineReason = reason(failure)
	case failure.Type == stripe.ErrorTypeInvalidRequest && failure.Code == stripe.ErrorCodeResourceMissing &&
		failure.Param == "payment_method":
		result.DeclineReason = invalidToken
	case failure.Type == stripe.ErrorTypeInvalidRequest && slices.Contains(unchargeable, failure.Code):
		result.DeclineReason = string(failure.Code)
	default:
		return acquirer.Result{}, explain("charging", err)
	}
	return result, nil
}

// unchargeable lists the codes with which Stripe refuses an amount or a payment method.
// They are declines, not bugs of the service.
var unchargeable = []stripe.ErrorCode{
	stripe.ErrorCodeAmountTooLarge,
	stripe.ErrorCodeAmountTooSmall,
	stripe.ErrorCodePaymentMethodInvalidParameter,
	stripe.ErrorCodePaymentMethodUnactivated,
	stripe.ErrorCodePaymentMethodUnexpectedState,
	stripe.ErrorCodePaymentIntentPaymentAttemptFailed,
}

// reason returns Stripe's decline code, or the error's code if there is none.
func reason(failure *stripe.Error) string {
	switch {
	case failure == nil:
		return "declined"
	case failure.Code == stripe.ErrorCodeAuthenticationRequired:
		return authenticationRequired
	case failure.Code == stripe.ErrorCodePaymentIntentAuthenticationFailure:
		return authenticationFailed
	case failure.DeclineCode != "":
		return string(failure.DeclineCode)
	case failure.Code != "":
		return string(failure.Code)
	}
	return "declined"
}

// find returns the intent of an order, or nil. If there are several, it prefers one that
// is captured or authorised.
func (s *Stripe) find(ctx context.Context, order uuid.UUID) (*stripe.PaymentIntent, error) {
	page := &stripe.PaymentIntentSearchResult{}
	err := s.call(ctx, http.MethodGet, intentsPath+"/search", "", &searchParams{
		Query: fmt.Sprintf("metadata['%s']:'%s'", orderID, order),
		Limit: 100,
	}, page)
	if err != nil {
		return nil, err
	}
	var best *stripe.PaymentIntent
	for _, intent := range page.Data {
		if best == nil || holds(intent) {
			best = intent
		}
	}
	return best, nil
}

// searchParams are the parameters of a search for one page.
type searchParams struct {
	stripe.Params `form:"*"`
	Query         string `form:"query"`
	Limit         int64  `form:"limit"`
}

// refundsParams are the parameters of a page of a list of refunds.
type refundsParams struct {
	stripe.Params `form:"*"`
	PaymentIntent string  `form:"payment_intent"`
	Limit         int64   `form:"limit"`
	StartingAfter *string `form:"starting_after"`
}

func holds(intent *stripe.PaymentIntent) bool {
	return intent.Status == stripe.PaymentIntentStatusSucceeded || intent.Status == stripe.PaymentIntentStatusRequiresCapture
}

// Capture implements acquirer.Acquirer.
func (s *Stripe) Capture(ctx context.Context, key, reference string) error {
	intent, err := s.change(ctx, "capture", key, reference, func() stripe.ParamsContainer { return &stripe.PaymentIntentCaptureParams{} })
	switch stateOf(intent, err) {
	case stripe.PaymentIntentStatusSucceeded:
		return nil
	case stripe.PaymentIntentStatusCanceled: // by the service, or by Stripe after a week
		return fmt.Errorf("stripe: capturing: %w", acquirer.ErrVoided)
	}
	return explain("capturing", err)
}

// Void implements acquirer.Acquirer. It cancels the intent, whether it is confirmed or not.
func (s *Stripe) Void(ctx context.Context, key string, charge acquirer.Charge) error {
	err := s.cancel(ctx, key, charge.Reference)
	if err == nil || errors.Is(err, acquirer.ErrCaptured) {
		return err
	}
	return explain("voiding", err)
}

func (s *Stripe) cancel(ctx context.Context, key, reference string) error {
	intent, err := s.change(ctx, "cancel", key, reference, func() stripe.ParamsContainer { return &stripe.PaymentIntentCancelParams{} })
	switch stateOf(intent, err) {
	case stripe.PaymentIntentStatusCanceled:
		return nil
	case stripe.PaymentIntentStatusSucceeded:
		return acquirer.ErrCaptured
	}
	if err == nil {
		err = fmt.Errorf("the intent is %s", intent.Status)
	}
	return err
}

// stateOf returns the intent's state, from an answer or from the refusal of a call that
// the state does not allow.
func stateOf(intent *stripe.PaymentIntent, err error) stripe.PaymentIntentStatus {
	if err == nil {
		return intent.Status
	}
	if before := unexpected(err); before != nil {
		return before.Status
	}
	return ""
}

// unexpected returns the intent from the refusal of a call that its state does not allow, or
// nil.
func unexpected(err error) *stripe.PaymentIntent {
	if failure := apiError(err); failure != nil && failure.Code == stripe.ErrorCodePaymentIntentUnexpectedState {
		return failure.PaymentIntent
	}
	return nil
}

// Refund implements acquirer.Acquirer.
func (s *Stripe) Refund(ctx context.Context, key, reference string, amount money.Money) (acquirer.Refund, error) {
	refund := &stripe.Refund{}
	err := s.call(ctx, http.MethodPost, refundsPath, key, &stripe.RefundCreateParams{
		PaymentIntent: new(reference),
		Amount:        new(amount.Amount),
	}, refund)
	if failure := apiError(err); repeats(err) || failure != nil && failure.Code == stripe.ErrorCodeChargeAlreadyRefunded {
		// Stripe failed halfway; or the refund was made in Stripe's dashboard, or with a key that
		// Stripe has dropped.
		return s.refundOf(ctx, reference, amount, err)
	}
	return refundState(refund, err)
}

// RefundPart implements acquirer.Acquirer. The refund has the key in its metadata, by which it is found
// again. (Refund sends none: a call of an earlier version with the same key would be another one to Stripe.)
func (s *Stripe) RefundPart(ctx context.Context, key, reference string, amount money.Money, old bool) (acquirer.Refund, error) {
	if old {
		if refund, err := s.refundOfKey(ctx, key, reference); err != nil || refund != nil {
			return refundState(refund, err)
		}
	}
	refund := &stripe.Refund{}
	err := s.call(ctx, http.MethodPost, refundsPath, key, &stripe.RefundCreateParams{
		PaymentIntent: new(reference), Amount: new(amount.Amount), Metadata: map[string]string{refundKey: key},
	}, refund)
	if failure := apiError(err); repeats(err) || failure != nil && failure.Code == stripe.ErrorCodeChargeAlreadyRefunded {
		known, lookErr := s.refundOfKey(ctx, key, reference)
		switch {
		case lookErr != nil || known != nil:
			return refundState(known, lookErr)
		case repeats(err): // Stripe failed halfway, and repeats that for the key
			return acquirer.Refund{}, fmt.Errorf("stripe: refunding: there is no refund: %w: status %d", acquirer.ErrRefused, failure.HTTPStatusCode)
		}
	}
	return refundState(refund, err)
}

// refundOfKey returns the refund of an intent that RefundPart has begun with the key, or nil.
func (s *Stripe) refundOfKey(ctx context.Context, key, reference string) (*stripe.Refund, error) {
	return s.searchRefunds(ctx, reference, func(refund *stripe.Refund) bool { return refund.Metadata[refundKey] == key })
}

// searchRefunds returns the newest refund of an intent that matches, or nil. It reads every page: a refund
// that has failed stays in the list, and so there is no limit to their number.
func (s *Stripe) searchRefunds(ctx context.Context, reference string, matches func(*stripe.Refund) bool) (*stripe.Refund, error) {
	params := &refundsParams{PaymentIntent: reference, Limit: 100}
	for {
		list := &stripe.RefundList{}
		if err := s.call(ctx, http.MethodGet, refundsPath, "", params, list); err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(list.Data, matches); i >= 0 {
			return list.Data[i], nil
		}
		if !list.HasMore || len(list.Data) == 0 {
			return nil, nil
		}
		params.StartingAfter = &list.Data[len(list.Data)-1].ID
	}
}

// refundOf returns the refund of an intent's whole amount that has not failed. If there is none, cause
// refuses the refund: another key is safe, because Stripe refunds no more than was captured.
func (s *Stripe) refundOf(ctx context.Context, reference string, amount money.Money, cause error) (acquirer.Refund, error) {
	known, err := s.searchRefunds(ctx, reference, func(refund *stripe.Refund) bool {
		stands, err := refundState(refund, nil)
		return err == nil && stands.State != acquirer.RefundFailed && refund.Amount == amount.Amount
	})
	switch {
	case err != nil:
		return acquirer.Refund{}, explain("looking for the refund", err)
	case known != nil:
		return refundState(known, nil)
	}
	return acquirer.Refund{}, fmt.Errorf("stripe: refunding: there is no refund: %w: status %d, %s",
		acquirer.ErrRefused, apiError(cause).HTTPStatusCode, apiError(cause).Code)
}

// FindRefund implements acquirer.Acquirer.
func (s *Stripe) FindRefund(ctx context.Context, reference string) (acquirer.Refund, error) {
	refund := &stripe.Refund{}
	err := s.call(ctx, http.MethodGet, stripe.FormatURLPath(refundsPath+"/%s", reference), "", &stripe.RefundRetrieveParams{}, refund)
	return refundState(refund, err)
}

// refundState converts Stripe's answer. A refund that requires an action waits for the
// shopper, whom Stripe asks by e-mail where to send the money.
func refundState(refund *stripe.Refund, err error) (acquirer.Refund, error) {
	if err != nil {
		return acquirer.Refund{}, explain("refunding", err)
	}
	known := acquirer.Refund{Reference: refund.ID}
	switch refund.Status {
	case stripe.RefundStatusSucceeded:
		known.State = acquirer.RefundDone
	case stripe.RefundStatusPending, stripe.RefundStatusRequiresAction:
		known.State = acquirer.RefundPending
	case stripe.RefundStatusFailed, stripe.RefundStatusCanceled:
		known.State, known.Reason = acquirer.RefundFailed, string(refund.Status)
		if refund.FailureReason != "" {
			known.Reason = string(refund.FailureReason)
		}
	default:
		return acquirer.Refund{}, fmt.Errorf("stripe: refunding: the refund is %q: %w", refund.Status, acquirer.ErrUnknown)
	}
	return known, nil
}

// refundEvents say that a refund has changed. Of its creation, the call that made it tells.
var refundEvents = []stripe.EventType{stripe.EventTypeRefundUpdated, stripe.EventTypeRefundFailed, stripe.EventTypeChargeRefundUpdated}

// HasWebhook tells whether the settings have the secret of a webhook endpoint.
func (s *Stripe) HasWebhook() bool { return s.webhookSecret != "" }

// Notice reads a webhook's body. It returns ErrNotGenuine unless the signature is of the
// endpoint's secret and at most five minutes old, and an empty notice for an event that is about
// no charge or refund of this service. https://docs.stripe.com/webhooks#verify-official-libraries
func (s *Stripe) Notice(ctx context.Context, body []byte, signature string) (acquirer.Notice, error) {
	// Only ids are read, which are the same in all versions of the API.
	options := webhook.ConstructEventOptions{Tolerance: webhook.DefaultTolerance, IgnoreAPIVersionMismatch: true}
	event, err := webhook.ConstructEventWithOptions(body, signature, s.webhookSecret, options)
	if err != nil || event.Data == nil || !s.HasWebhook() {
		return acquirer.Notice{}, acquirer.ErrNotGenuine
	}
	kind := string(event.Type)
	switch {
	case strings.HasPrefix(kind, "payment_intent."):
		intent := &stripe.PaymentIntent{}
		if err := json.Unmarshal(event.Data.Raw, intent); err != nil {
			return acquirer.Notice{}, fmt.Errorf("stripe: reading the event %s: %w", event.ID, err)
		}
		return noticeOf(intent, ""), nil
	case slices.Contains(refundEvents, event.Type):
		refund := &stripe.Refund{}
		if err := json.Unmarshal(event.Data.Raw, refund); err != nil {
			return acquirer.Notice{}, fmt.Errorf("stripe: reading the event %s: %w", event.ID, err)
		}
		if refund.PaymentIntent == nil {
			return acquirer.Notice{}, nil
		}
		intent, err := s.show(ctx, refund.PaymentIntent.ID) // which has the order's id
		if err != nil {
			return acquirer.Notice{}, explain("reading the refunded charge", err)
		}
		return noticeOf(intent, refund.ID), nil
	}
	return acquirer.Notice{}, nil
}

func noticeOf(intent *stripe.PaymentIntent, refund string) acquirer.Notice {
	order, err := uuid.Parse(intent.Metadata[orderID])
	if err != nil { // of another program that uses the account
		return acquirer.Notice{}
	}
	return acquirer.Notice{OrderID: order, Reference: intent.ID, Refund: refund}
}

func apiError(err error) *stripe.Error {
	var failure *stripe.Error
	errors.As(err, &failure)
	return failure
}

// explain converts an error, without Stripe's message, which may quote tokens.
func explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	failure := apiError(err)
	if failure == nil {
		if !acquirer.Unknown(err) {
			return fmt.Errorf("stripe: %s: %w", doing, err)
		}
		return fmt.Errorf("stripe: %s: %w: %w", doing, acquirer.ErrUnknown, err)
	}
	kind := acquirer.ErrUnknown
	switch failure.HTTPStatusCode {
	case http.StatusBadRequest, http.StatusPaymentRequired, http.StatusNotFound:
		// After idempotency_error, another call with this key may have taken effect.
		if failure.Type != stripe.ErrorTypeIdempotency && failure.Code != stripe.ErrorCodeLockTimeout {
			kind = acquirer.ErrRefused
		}
	}
	return fmt.Errorf("stripe: %s: %w: status %d, %s %s, request %s", doing, kind,
		failure.HTTPStatusCode, failure.Type, failure.Code, failure.RequestID)
}
