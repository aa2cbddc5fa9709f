package httpapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/page"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pedidos/webhook"
)

// webhookClient reads the header Client-Id, which may be the operator's too.
func webhookClient(header *string) (value.ClientID, error) {
	if header != nil && *header == string(webhook.Everyone) {
		return webhook.Everyone, nil
	}
	return clientID(header)
}

// explainWebhook maps the errors of package webhook to problems.
func explainWebhook(err error) error {
	var url *webhook.URLError
	switch {
	case errors.As(err, &url):
		return problem.At(problem.InvalidValue, problem.Field{Name: "url", Detail: url.Reason.Error()})
	case errors.Is(err, webhook.ErrOff):
		return problem.New(problem.NotFound, "Webhooks are turned off here.")
	case errors.Is(err, webhook.ErrNotFound):
		return problem.New(problem.NotFound, "There is no such endpoint or event.")
	case errors.Is(err, webhook.ErrTooMany):
		return problem.New(problem.WebhookLimit, fmt.Sprintf("A client may have %d endpoints. Delete one first.", webhook.MaxEndpoints))
	case errors.Is(err, webhook.ErrUnderWay):
		return problem.New(problem.WebhookState, "The event is being sent, or waits for an earlier event of its order.")
	}
	return err
}

// ListWebhooks implements GET /webhooks.
func (o operations) ListWebhooks(
	ctx context.Context, request contract.ListWebhooksRequestObject,
) (contract.ListWebhooksResponseObject, error) {
	client, err := webhookClient(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	endpoints, err := o.webhooks.List(ctx, client)
	if err != nil {
		return nil, err
	}
	answer := contract.ListWebhooks200JSONResponse{Items: []contract.Webhook{}}
	for _, e := range endpoints {
		answer.Items = append(answer.Items, ofEndpoint(e, ""))
	}
	return answer, nil
}

// RegisterWebhook implements POST /webhooks.
func (o operations) RegisterWebhook(
	ctx context.Context, request contract.RegisterWebhookRequestObject,
) (contract.RegisterWebhookResponseObject, error) {
	client, err := webhookClient(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	registered, secret, err := o.webhooks.Register(ctx, client, request.Body.URL)
	if err != nil {
		return nil, explainWebhook(err)
	}
	return contract.RegisterWebhook201JSONResponse{
		Body:    ofEndpoint(registered, secret),
		Headers: contract.RegisterWebhook201ResponseHeaders{Location: new("/webhooks/" + registered.ID.String())},
	}, nil
}

// ShowWebhook implements GET /webhooks/{webhook_id}.
func (o operations) ShowWebhook(
	ctx context.Context, request contract.ShowWebhookRequestObject,
) (contract.ShowWebhookResponseObject, error) {
	client, err := webhookClient(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	shown, err := o.webhooks.Show(ctx, client, request.WebhookID)
	if err != nil {
		return nil, explainWebhook(err)
	}
	return contract.ShowWebhook200JSONResponse(ofEndpoint(shown, "")), nil
}

// RemoveWebhook implements DELETE /webhooks/{webhook_id}.
func (o operations) RemoveWebhook(
	ctx context.Context, request contract.RemoveWebhookRequestObject,
) (contract.RemoveWebhookResponseObject, error) {
	client, err := webhookClient(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	if err := o.webhooks.Remove(ctx, client, request.WebhookID); err != nil {
		return nil, explainWebhook(err)
	}
	return contract.RemoveWebhook204Response{}, nil
}

// RotateWebhookSecret implements POST /webhooks/{webhook_id}/rotate.
func (o operations) RotateWebhookSecret(
	ctx context.Context, request contract.RotateWebhookSecretRequestObject,
) (contract.RotateWebhookSecretResponseObject, error) {
	client, err := webhookClient(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	rotated, secret, err := o.webhooks.Rotate(ctx, client, request.WebhookID)
	if err != nil {
		return nil, explainWebhook(err)
	}
	return contract.RotateWebhookSecret200JSONResponse(ofEndpoint(rotated, secret)), nil
}

// DisableWebhook implements POST /webhooks/{webhook_id}/disable.
func (o operations) DisableWebhook(
	ctx context.Context, request contract.DisableWebhookRequestObject,
) (contract.DisableWebhookResponseObject, error) {
	client, err := webhookClient(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	disabled, err := o.webhooks.Disable(ctx, client, request.WebhookID)
	if err != nil {
		return nil, explainWebhook(err)
	}
	return contract.DisableWebhook200JSONResponse(ofEndpoint(disabled, "")), nil
}

// EnableWebhook implements POST /webhooks/{webhook_id}/enable.
func (o operations) EnableWebhook(
	ctx context.Context, request contract.EnableWebhookRequestObject,
) (contract.EnableWebhookResponseObject, error) {
	client, err := webhookClient(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	enabled, err := o.webhooks.Enable(ctx, client, request.WebhookID)
	if err != nil {
		return nil, explainWebhook(err)
	}
	return contract.EnableWebhook200JSONResponse(ofEndpoint(enabled, "")), nil
}

// ListDeliveries implements GET /webhooks/{webhook_id}/deliveries.
func (o operations) ListDeliveries(
	ctx context.Context, request contract.ListDeliveriesRequestObject,
) (contract.ListDeliveriesResponseObject, error) {
	client, err := webhookClient(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	asked, err := deliveryList.Request(request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	deliveries, err := o.webhooks.Deliveries(ctx, client, request.WebhookID, asked.After, asked.Limit+1)
	if err != nil {
		return nil, explainWebhook(err)
	}
	deliveries, next := page.Cut(deliveryList, asked, deliveries, func(d webhook.Delivery) int64 { return d.Number })
	answer := contract.ListDeliveries200JSONResponse{Items: []contract.Delivery{}, NextCursor: next}
	for _, d := range deliveries {
		answer.Items = append(answer.Items, ofDelivery(d))
	}
	return answer, nil
}

// Redeliver implements POST /webhooks/{webhook_id}/deliveries/{event_id}/redeliver.
func (o operations) Redeliver(ctx context.Context, request contract.RedeliverRequestObject) (contract.RedeliverResponseObject, error) {
	client, err := webhookClient(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	sent, err := o.webhooks.Redeliver(ctx, client, request.WebhookID, request.EventID)
	if err != nil {
		return nil, explainWebhook(err)
	}
	return contract.Redeliver202JSONResponse(ofDelivery(sent)), nil
}

// deliveryList is sorted by the deliveries' numbers, newest first.
var deliveryList = page.List[int64]{
	First:  math.MaxInt64,
	Format: func(number int64) string { return "d" + strconv.FormatInt(number, 36) },
	Parse: func(text string) (int64, error) {
		if len(text) < 2 || text[0] != 'd' {
			return 0, strconv.ErrSyntax
		}
		return strconv.ParseInt(text[1:], 36, 64)
	},
}

func ofEndpoint(e webhook.Endpoint, secret string) contract.Webhook {
	shown := contract.Webhook{
		ID: e.ID, URL: e.URL, CreatedAt: e.Created.UTC(), DisabledAt: optional(e.Disabled), FailingSince: optional(e.Failing),
	}
	if secret != "" {
		shown.Secret = &secret
	}
	if e.Reason != "" {
		shown.DisabledReason = new(contract.WebhookDisabledReason(e.Reason))
	}
	return shown
}

func ofDelivery(d webhook.Delivery) contract.Delivery {
	shown := contract.Delivery{
		EventID: d.Event, Type: d.Type, OrderID: d.Order, Sequence: d.Sequence, HappenedAt: d.At.UTC(), State: contract.DeliveryState(d.State),
		Attempts: d.Attempts, NextAttemptAt: optional(d.Next), LastAttemptAt: optional(d.Last),
	}
	if d.Status != 0 {
		shown.LastStatus = &d.Status
	}
	if d.Problem != "" {
		shown.LastProblem = &d.Problem
	}
	return shown
}

func optional(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return new(at.UTC())
}
