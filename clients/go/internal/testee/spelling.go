package main

import (
	"errors"

	"kps.internal/kps"
)

// ofError describes an error.
func ofError(err error) fields {
	var (
		refused *kps.ServerError
		failed  *kps.RequestFailed
	)
	switch {
	case errors.As(err, &failed):
		return fields{"error": "request_failed", "errors": failed.Errors}
	case errors.Is(err, kps.ErrClientClosed):
		return fields{"error": "client_closed"}
	case errors.As(err, &refused):
		if refused.Code == "" {
			return fields{"error": "server_error"}
		}
		return fields{"error": "server_error", "code": refused.Code}
	}
	return fields{"error": kindOf(err)}
}

func kindOf(err error) string {
	switch {
	case errors.Is(err, kps.ErrNotConnected):
		return "not_connected"
	case errors.Is(err, kps.ErrRequestTimeout):
		return "request_timeout"
	case errors.Is(err, kps.ErrQueueFull):
		return "queue_full"
	case errors.Is(err, kps.ErrNobodyThere):
		return "nobody_there"
	case is[*kps.MessageTooLarge](err):
		return "message_too_large"
	case is[*kps.InvalidArgument](err):
		return "invalid_argument"
	case is[*kps.ConnectFailed](err):
		return "connect_failed"
	case is[*kps.ConnectionLost](err):
		return "connection_lost"
	case is[*kps.Unsupported](err):
		return "unsupported"
	}
	return err.Error()
}

func is[E error](err error) bool {
	var kind E
	return errors.As(err, &kind)
}

func ofDirect(m *kps.Message) fields {
	told := fields{"data": m.Data, "from": m.From}
	if len(m.Headers) > 0 {
		told["headers"] = m.Headers
	}
	return told
}

func ofMessage(m *kps.Message) fields {
	told := ofDirect(m)
	told["topic"] = m.Topic
	if m.Position.Offset > 0 {
		told["offset"] = m.Position.Offset
	}
	if m.Attempt > 1 {
		told["attempt"] = m.Attempt
	}
	return told
}

func ofResponse(r *kps.AckResponse) fields {
	told := fields{"success": r.Success}
	if r.ID != "" {
		told["id"] = r.ID
	}
	if r.Error != "" {
		told["error"] = r.Error
	}
	if r.Result != nil {
		told["result"] = r.Result
	}
	if r.Group == "" {
		return told
	}
	told["group"], told["attempts"] = r.Group, r.Attempts
	if r.Pattern != "" {
		told["pattern"] = r.Pattern
	} else {
		told["topic"] = r.Topic
	}
	if len(r.Failures) > 0 {
		failures := [][2]string{}
		for _, failure := range r.Failures {
			failures = append(failures, [2]string{failure.Member, failure.Error})
		}
		told["failures"] = failures
	}
	return told
}
