package kps

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

const (
	defaultPort = "9313"
	defaultPath = "/ws/bus"
)

// address is where a server is.
type address struct {
	network string // host:port to which to connect
	name    string // of the host, which its certificate has
	host    string // of the request: without the scheme's own port
	target  string // path and query
	secure  bool
}

// url returns the address for people to read, without the query, which may have a token.
func (a *address) url() string {
	scheme, path := "ws", a.target
	if a.secure {
		scheme = "wss"
	}
	if query := strings.IndexByte(path, '?'); query >= 0 {
		path = path[:query]
	}
	return scheme + "://" + a.network + path
}

// parseAddress reads host, host:port, or a URL of the scheme ws, wss, http or https.
func parseAddress(text string) (address, error) {
	if text == "" {
		text = "localhost"
	}
	hasScheme := strings.Contains(text, "://")
	written := text
	if !hasScheme {
		written = "ws://" + text
	}
	parts, err := url.Parse(written)
	if err != nil || parts.Hostname() == "" || parts.User != nil || parts.Fragment != "" ||
		strings.ContainsAny(text, " #") {
		return address{}, unreadable(text)
	}
	a := address{name: parts.Hostname()}
	port := defaultPort
	switch parts.Scheme {
	case "ws", "http":
		if hasScheme {
			port = "80"
		}
	case "wss", "https":
		a.secure, port = true, "443"
	default:
		return address{}, unreadable(text)
	}
	own := port
	if parts.Port() != "" {
		port = parts.Port()
	}
	if number, err := strconv.Atoi(port); err != nil || number < 1 || number > 65535 {
		return address{}, unreadable(text)
	}
	a.network = net.JoinHostPort(a.name, port)
	a.host = a.network
	if hasScheme && port == own {
		a.host = strings.TrimSuffix(a.network, ":"+port)
	}
	if a.target = parts.EscapedPath(); a.target == "" {
		a.target = defaultPath
	}
	if parts.RawQuery != "" {
		a.target += "?" + parts.RawQuery
	}
	return a, nil
}

// unreadable does not show what is behind a question mark, which may be a token.
func unreadable(text string) error {
	shown, _, _ := strings.Cut(text, "?")
	return &InvalidArgument{fmt.Sprintf("not the address of a server: %q", shown)}
}
