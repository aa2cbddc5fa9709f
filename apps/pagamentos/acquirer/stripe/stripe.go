// Package stripe is the acquirer Stripe. A payment is a PaymentIntent that is confirmed
// on creation, with the payment method that the shop's page obtained for the card.
package stripe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v84"
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
	// keyLife is how long the service relies on an idempotency key. Stripe may drop it
	// after 24 hours: https://docs.stripe.com/api/idempotent_requests
	keyLife = 20 * time.Hour
	// replayed is the header that Stripe sets on a repeated answer.
	replayed    = "Idempotent-Replayed"
	intentsPath = "/v1/payment_intents"
	// orderID is the key of a PaymentIntent's metadata.
	orderID = "order_id"
)

// Reasons for a decline that are not Stripe's own decline codes.
const (
	authenticationRequired = "authentication_required"
	invalidToken           = "invalid_token"
	cancelled              = "cancelled"
)

// Settings are the account's settings.
type Settings struct {
	APIKey  string // STRIPE_API_KEY: a secret
	APIBase string // STRIPE_API_BASE: URL of the API; "" means Stripe's own
}

// ReadSettings reads the settings. No error quotes the key.
func ReadSettings(env *config.Reader) Settings {
	settings := Settings{APIKey: env.Text("STRIPE_API_KEY", ""), APIBase: env.HTTPURL("STRIPE_API_BASE")}
	switch {
	case settings.APIKey == "":
		env.Reject("STRIPE_API_KEY", "required with ACQUIRER=stripe: the secret key of the account")
	case !strings.HasPrefix(settings.APIKey, "sk_") && !strings.HasPrefix(settings.APIKey, "rk_"):
		env.Reject("STRIPE_API_KEY", "is not a secret or restricted key, which begin with sk_ or rk_")
	}
	return settings
}

// String shows the settings without the key.
func (s Settings) String() string { return "{APIBase:" + s.APIBase + "}" }

// GoString is String, so that %#v does not show the key either.
func (s Settings) GoString() string { return s.String() }

// Stripe implements acquirer.Acquirer. It uses a stripe.Backend, because a stripe.Client
// links the whole API and adds 6 MB to the program for four operations.
type Stripe struct {
	api stripe.Backend
	key string
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
	return &Stripe{stripe.GetBackendWithConfig(stripe.APIBackend, backend), settings.APIKey}
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

// Authorise implements acquirer.Acquirer. A card that requires the shopper to
// authenticate is declined: the shopper is not present.
func (s *Stripe) Authorise(ctx context.Context, charge acquirer.Charge) (acquirer.Result, error) {
	if charge.Age > keyLife {
		// Stripe may have dropped the key, so repeating the call could charge again.
		intent, err := s.find(ctx, charge.OrderID)
		if err != nil || intent != nil {
			return s.result(ctx, intent, err)
		}
	}
	method := stripe.PaymentIntentCaptureMethodManual
	if charge.Capture {
		method = stripe.PaymentIntentCaptureMethodAutomatic
	}
	intent, err := s.post(ctx, intentsPath, charge.Key, &stripe.PaymentIntentCreateParams{
		Amount:                new(charge.Amount.Amount),
		Currency:              new(strings.ToLower(charge.Amount.Currency)),
		PaymentMethod:         new(charge.CardToken),
		PaymentMethodTypes:    []*string{new("card")},
		CaptureMethod:         new(string(method)),
		Confirm:               new(true),
		OffSession:            new(true),
		ErrorOnRequiresAction: new(true),
		Metadata:              map[string]string{orderID: charge.OrderID.String()},
	})
	if failure := apiError(err); failure != nil && failure.HTTPStatusCode >= http.StatusInternalServerError &&
		failure.LastResponse != nil && failure.LastResponse.Header.Get(replayed) == "true" {
		// Stripe failed halfway, and repeats this answer as long as it keeps the key. Look up
		// whether it charged the card.
		found, lookup := s.find(ctx, charge.OrderID)
		if lookup == nil && found != nil {
			intent, err = found, nil
		}
	}
	return s.result(ctx, intent, err)
}

// result converts Stripe's answer to a result of Authorise.
func (s *Stripe) result(ctx context.Context, intent *stripe.PaymentIntent, err error) (acquirer.Result, error) {
	if err != nil {
		return declined(err)
	}
	result := acquirer.Result{Reference: intent.ID}
	switch intent.Status {
	case stripe.PaymentIntentStatusSucceeded:
		result.State = acquirer.Captured
	case stripe.PaymentIntentStatusRequiresCapture:
		result.State = acquirer.Authorised
	case stripe.PaymentIntentStatusRequiresPaymentMethod:
		result.State, result.DeclineReason = acquirer.Declined, reason(intent.LastPaymentError)
	case stripe.PaymentIntentStatusCanceled:
		result.State, result.DeclineReason = acquirer.Declined, cancelled
	case stripe.PaymentIntentStatusRequiresAction, stripe.PaymentIntentStatusRequiresConfirmation:
		// Cancel the intent, so that it is never charged.
		if err := s.cancel(ctx, intent.ID+":abandon", intent.ID); err != nil {
			return acquirer.Result{}, explain("cancelling an unfinished charge", err)
		}
		result.State, result.DeclineReason = acquirer.Declined, authenticationRequired
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

func holds(intent *stripe.PaymentIntent) bool {
	return intent.Status == stripe.PaymentIntentStatusSucceeded || intent.Status == stripe.PaymentIntentStatusRequiresCapture
}

// Capture implements acquirer.Acquirer.
func (s *Stripe) Capture(ctx context.Context, key, reference string) error {
	intent, err := s.post(ctx, stripe.FormatURLPath(intentsPath+"/%s/capture", reference), key, &stripe.PaymentIntentCaptureParams{})
	switch stateOf(intent, err) {
	case stripe.PaymentIntentStatusSucceeded:
		return nil
	case stripe.PaymentIntentStatusCanceled: // by the service, or by Stripe after a week
		return fmt.Errorf("stripe: capturing: %w", acquirer.ErrVoided)
	}
	return explain("capturing", err)
}

// Void implements acquirer.Acquirer.
func (s *Stripe) Void(ctx context.Context, key, reference string) error {
	return explain("voiding", s.cancel(ctx, key, reference))
}

func (s *Stripe) cancel(ctx context.Context, key, reference string) error {
	intent, err := s.post(ctx, stripe.FormatURLPath(intentsPath+"/%s/cancel", reference), key, &stripe.PaymentIntentCancelParams{})
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
	failure := apiError(err)
	if failure != nil && failure.Code == stripe.ErrorCodePaymentIntentUnexpectedState && failure.PaymentIntent != nil {
		return failure.PaymentIntent.Status
	}
	return ""
}

// Refund implements acquirer.Acquirer. A pending refund counts as refunded.
func (s *Stripe) Refund(ctx context.Context, key, reference string, amount money.Money) error {
	refund := &stripe.Refund{}
	err := s.call(ctx, http.MethodPost, "/v1/refunds", key, &stripe.RefundCreateParams{
		PaymentIntent: new(reference),
		Amount:        new(amount.Amount),
	}, refund)
	if failure := apiError(err); failure != nil && failure.Code == stripe.ErrorCodeChargeAlreadyRefunded {
		return nil // in Stripe's dashboard, or with a key that Stripe has dropped
	}
	if err != nil {
		return explain("refunding", err)
	}
	switch refund.Status {
	case stripe.RefundStatusFailed, stripe.RefundStatusCanceled:
		return fmt.Errorf("stripe: refunding: the refund %s is %s: %w", refund.ID, refund.Status, acquirer.ErrRefused)
	}
	return nil
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
		if failure.Code != stripe.ErrorCodeIdempotencyKeyInUse && failure.Code != stripe.ErrorCodeLockTimeout {
			kind = acquirer.ErrRefused
		}
	}
	return fmt.Errorf("stripe: %s: %w: status %d, %s %s, request %s", doing, kind,
		failure.HTTPStatusCode, failure.Type, failure.Code, failure.RequestID)
}
