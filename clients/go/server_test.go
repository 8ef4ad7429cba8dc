package kps_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"kps.internal/kps"
)

// The tests here run against a real server: that of KPS_PYTHON, or of the checkout. Without one
// they are skipped. They mostly wait, so they run side by side.

// python returns the Python that has KPS.
func python(t testing.TB) string {
	t.Helper()
	python := os.Getenv("KPS_PYTHON")
	if python == "" {
		python = "../../.venv/bin/python"
	}
	if _, err := exec.LookPath(python); err != nil {
		t.Skipf("no KPS server here: %v; KPS_PYTHON names a Python that has it", err)
	}
	return python
}

// serve starts a server, and returns its address.
func serve(t testing.TB, options ...string) string {
	t.Helper()
	return serveOn(t, "127.0.0.1:0", options...).address
}

type process struct {
	address string
	stop    func()
}

func serveOn(t testing.TB, address string, options ...string) *process {
	t.Helper()
	options = append([]string{"-m", "kps", "serve", "--address", address, "--log-level", "error"}, options...)
	command := exec.Command(python(t), options...)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Skip(err)
	}
	p := &process{stop: sync.OnceFunc(func() {
		_ = command.Process.Signal(os.Interrupt)
		_ = command.Wait()
	})}
	t.Cleanup(p.stop)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, url, found := strings.Cut(lines.Text(), " on "); found {
			p.address = strings.Fields(url)[0]
			go func() {
				for lines.Scan() {
				}
			}()
			return p
		}
	}
	t.Skip("the server does not start")
	return nil
}

func mustAbs(t testing.TB, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

func connectTo(t testing.TB, address string, o *kps.Options) *kps.Client {
	t.Helper()
	c, err := kps.Connect(t.Context(), address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestServer(t *testing.T) {
	t.Parallel()
	url := serve(t, "--history", "past/**=100")
	ctx := t.Context()
	for _, level := range []int{1, 2} {
		t.Run(fmt.Sprint("level ", level), func(t *testing.T) {
			alice := connectTo(t, url, &kps.Options{ID: "alice", Level: level})
			bob := connectTo(t, url, &kps.Options{ID: "bob", Level: level, OnDirect: func(_ context.Context, m *kps.Message) (any, error) {
				return "hello " + m.From, nil
			}})
			if alice.Level() != level {
				t.Error(alice.Level())
			}
			got := make(chan *kps.Message, 1000)
			if _, err := bob.Subscribe(ctx, "news", func(m *kps.Message) { got <- m }); err != nil {
				t.Fatal(err)
			}
			for i := range 1000 {
				if err := alice.Publish(ctx, "news", i); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 1000 {
				if m := <-got; string(m.Data) != fmt.Sprint(i) || m.From != "alice" {
					t.Fatal(m)
				}
			}
			ack, err := alice.PublishWithAck(ctx, "news", "x")
			if err != nil {
				t.Fatal(err)
			}
			if responses, err := ack.Wait(ctx); err != nil || len(responses) != 1 || !responses["bob"].Success {
				t.Error(responses, err)
			}
			result, err := alice.RequestToID(ctx, "bob", 1)
			if err != nil || level == 2 && string(result) != `"hello alice"` {
				t.Error(string(result), err)
			}
			if _, err := alice.RequestToID(ctx, "nobody", 1); !errors.Is(err, kps.ErrNobodyThere) {
				t.Error(err)
			}
			count, err := alice.PublishWithReceipt(ctx, "news", 1)
			if err != nil || count != map[int]int{1: -1, 2: 1}[level] {
				t.Error(count, err)
			}
			_, err = alice.Subscribe(ctx, strings.Repeat("x", 300), func(*kps.Message) {})
			if refused := new(kps.ServerError); !errors.As(err, &refused) || level == 2 && refused.Code != "bad_request" {
				t.Error(err)
			}
			if level == 1 {
				if _, err := alice.Presence(ctx, "news"); !errors.As(err, new(*kps.Unsupported)) {
					t.Error(err)
				}
			}
		})
	}
}

func TestHistoryAtAServer(t *testing.T) {
	t.Parallel()
	url := serve(t, "--history", "past/**=100")
	ctx := t.Context()
	c := connectTo(t, url, nil)
	for i := range 50 {
		if err := c.Publish(ctx, "past/a", i); err != nil {
			t.Fatal(err)
		}
	}
	past, err := c.History(ctx, "past/a", kps.Limit(10))
	if err != nil || len(past.Messages) != 10 || string(past.Messages[0].Data) != "40" || !past.Recovered {
		t.Fatal(past, err)
	}
	since := past.Messages[4].Position
	if past, err = c.History(ctx, "past/a", kps.Since(since)); err != nil || len(past.Messages) != 5 || past.Position.Offset != 50 {
		t.Error(past, err)
	}
	if _, err = c.History(ctx, "other"); err == nil || !strings.Contains(err.Error(), "no history") {
		t.Error(err)
	}
	got := make(chan *kps.Message, 10)
	if _, err := c.Subscribe(ctx, "past/a", func(m *kps.Message) { got <- m }, kps.Last(3)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if m := <-got; m.Position.Offset != int64(48+i) {
			t.Error(m)
		}
	}
	if _, err := c.Subscribe(ctx, "past/a", func(*kps.Message) {}, kps.Since(since)); !errors.As(err, new(*kps.InvalidArgument)) {
		t.Error(err)
	}
}

func TestPresenceAtAServer(t *testing.T) {
	t.Parallel()
	url := serve(t)
	ctx := t.Context()
	alice := connectTo(t, url, &kps.Options{ID: "alice"})
	bob := connectTo(t, url, &kps.Options{ID: "bob"})
	seen := make(chan *kps.Presence, 10)
	nothing := func(*kps.Message) {}
	if _, err := alice.Subscribe(ctx, "room", nothing, kps.OnPresence(func(p *kps.Presence) { seen <- p })); err != nil {
		t.Fatal(err)
	}
	if p := <-seen; p.Count != 1 || p.Members["alice"] != nil {
		t.Error(p)
	}
	sub, err := bob.Subscribe(ctx, "room", nothing, kps.Info(map[string]string{"name": "Bob"}))
	if err != nil {
		t.Fatal(err)
	}
	if p := <-seen; string(p.Joined["bob"]) != `{"name":"Bob"}` || len(p.Members) != 2 {
		t.Error(p)
	}
	if p, err := bob.Presence(ctx, "room"); err != nil || p.Count != 2 {
		t.Error(p, err)
	}
	sub.Unsubscribe()
	if p := <-seen; p.Left["bob"] != "unsubscribed" {
		t.Error(p)
	}
}

func TestGroupsAtAServer(t *testing.T) {
	t.Parallel()
	url := serve(t)
	ctx := t.Context()
	var mu sync.Mutex
	busy, most := 0, 0
	for i := range 2 {
		worker := connectTo(t, url, &kps.Options{ID: fmt.Sprint("worker", i)})
		_, err := worker.Handle(ctx, "jobs", func(context.Context, *kps.Message) (any, error) {
			mu.Lock()
			busy++
			most = max(most, busy)
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			mu.Lock()
			busy--
			mu.Unlock()
			return worker.ID(), nil
		}, kps.Group("g"), kps.Concurrency(2))
		if err != nil {
			t.Fatal(err)
		}
	}
	c := connectTo(t, url, nil)
	var acks []*kps.Ack
	for range 40 {
		ack, err := c.PublishWithAck(ctx, "jobs", 1)
		if err != nil {
			t.Fatal(err)
		}
		acks = append(acks, ack)
	}
	by := map[string]int{}
	for _, ack := range acks {
		responses, err := ack.Wait(ctx)
		r := responses["g of jobs"]
		if err != nil || r == nil || !r.Success || r.Group != "g" || r.Attempts != 1 {
			t.Fatal(responses, err)
		}
		by[r.ID]++
	}
	if len(by) != 2 || most > 4 {
		t.Error(by, most)
	}
}

func TestComingBackToAServer(t *testing.T) {
	first := serveOn(t, "127.0.0.1:0")
	address := strings.TrimSuffix(strings.TrimPrefix(first.address, "ws://"), "/ws/bus")
	ctx := t.Context()
	connected := make(chan kps.Connected, 10)
	c := connectTo(t, address, &kps.Options{ID: "me", Reconnect: kps.Every(50 * time.Millisecond), OfflineQueue: 10,
		OnConnect: func(e kps.Connected) { connected <- e }})
	<-connected
	got := make(chan *kps.Message, 10)
	if _, err := c.Subscribe(ctx, "a", func(m *kps.Message) { got <- m }); err != nil {
		t.Fatal(err)
	}
	first.stop()
	for c.IsConnected() {
		time.Sleep(time.Millisecond)
	}
	if err := c.Publish(ctx, "a", "kept"); err != nil {
		t.Fatal(err)
	}
	serveOn(t, address)
	if e := <-connected; !e.Again || e.ID != "me" {
		t.Error(e)
	}
	if m := <-got; string(m.Data) != `"kept"` {
		t.Error(m)
	}
}

func TestTakingOverAnID(t *testing.T) {
	t.Parallel()
	url := serve(t)
	one := connectTo(t, url, &kps.Options{ID: "me"})
	connectTo(t, url, &kps.Options{ID: "me"})
	<-one.Done()
	if lost := new(kps.ConnectionLost); !errors.As(one.Err(), &lost) || lost.Code != 4001 {
		t.Error(one.Err())
	}
	if err := one.Publish(t.Context(), "a", 1); !errors.Is(err, kps.ErrClientClosed) || !errors.As(err, new(*kps.ConnectionLost)) {
		t.Error(err)
	}
}

func TestTokensAtAServer(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tokens.toml")
	written := "[alice]\ntoken = \"a-token-of-the-test\"\n"
	if err := os.WriteFile(file, []byte(written), 0o600); err != nil {
		t.Fatal(err)
	}
	url := serve(t, "--tokens", file)
	_, err := kps.Connect(t.Context(), url, &kps.Options{Token: "wrong"})
	if failed := new(kps.ConnectFailed); !errors.As(err, &failed) || failed.Status != 401 {
		t.Error(err)
	}
	connectTo(t, url, &kps.Options{Token: "a-token-of-the-test"})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := certificate(t, cert, key)
	url := serve(t, "--tls-cert", cert, "--tls-key", key)
	c := connectTo(t, url, &kps.Options{TLS: &tls.Config{RootCAs: pool}})
	if err := c.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	_, err := kps.Connect(t.Context(), url, &kps.Options{NoReconnect: true, TLS: &tls.Config{RootCAs: x509.NewCertPool()}})
	if !errors.As(err, new(*kps.ConnectFailed)) || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
}

// TestClientVectors has the judge of the project judge this client.
func TestClientVectors(t *testing.T) {
	t.Parallel()
	python := mustAbs(t, python(t))
	if _, err := os.Stat("../../spec/client-vectors"); err != nil {
		t.Skip(err)
	}
	testee := filepath.Join(t.TempDir(), "testee")
	build := exec.Command("go", "build", "-race="+setting("-race"), "-o", testee, "./internal/testee")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatal(string(out), err)
	}
	report := filepath.Join(t.TempDir(), "report.json")
	judge := exec.Command(python, "-m", "kps", "conformance", "--client", testee, "--json", report)
	judge.Dir = mustAbs(t, "../..")
	judge.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	out, err := judge.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "vectors:") {
		t.Skipf("no judge here: %s %v", out, err)
	}
	t.Log(lastLine(string(out)))
	if err != nil {
		t.Errorf("%s", out)
	}
	if written, err := os.ReadFile(report); err != nil || !json.Valid(written) {
		t.Error(err)
	}
}

// setting returns with what this test was built. What is built likewise has most of its packages already.
func setting(key string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, one := range info.Settings {
			if one.Key == key {
				return one.Value
			}
		}
	}
	return "false"
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// certificate writes a certificate for this machine, and returns who trusts it.
func certificate(t *testing.T, cert, key string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	made, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	written, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: made}, key: {Type: "PRIVATE KEY", Bytes: written},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(made)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}
