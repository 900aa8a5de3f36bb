package mail

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"regexp"
	"slices"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// TLS says how the connection to the mail server is protected.
type TLS string

// The ways to protect a connection.
const (
	StartTLS TLS = "starttls" // plain at first, then TLS or nothing (RFC 3207); usually port 587
	Implicit TLS = "implicit" // TLS from the first byte (RFC 8314); usually port 465
	Plain    TLS = "none"     // to loopback addresses only
)

// SMTPConfig says how to reach the mail server and who writes.
type SMTPConfig struct {
	Host     string // required
	Port     int    // 587, or 465 with Implicit, where it is zero
	TLS      TLS    // StartTLS where it is empty
	Username string // "" for no authentication
	Password string
	From     string // address, required
	FromName string
	Hostname string         // what we call ourselves to the server; the domain of From where it is empty
	Roots    *x509.CertPool // whom to trust; nil for the system's roots
	Timeout  time.Duration  // for one message; 10 s where it is zero
	Now      func() time.Time
}

// SMTP sends messages through a mail server.
type SMTP struct {
	config  SMTPConfig
	options []gomail.Option
	dial    gomail.DialContextFunc
}

// NewSMTP checks the configuration. It does not connect.
func NewSMTP(config SMTPConfig) (*SMTP, error) {
	if config.Host == "" || config.Now == nil {
		return nil, errors.New("mail: Host and Now are required")
	}
	if err := CheckAddress(config.From); err != nil {
		return nil, fmt.Errorf("mail: From: %w", err)
	}
	if strings.ContainsFunc(config.FromName, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, errors.New("mail: control character in FromName")
	}
	if config.Timeout == 0 {
		config.Timeout = 10 * time.Second
	}
	if config.Hostname == "" {
		_, config.Hostname, _ = strings.Cut(config.From, "@")
	}
	encryption := &tls.Config{ServerName: config.Host, RootCAs: config.Roots, MinVersion: tls.VersionTLS12}
	s := &SMTP{
		options: []gomail.Option{
			gomail.WithTimeout(config.Timeout),
			gomail.WithHELO(config.Hostname), // not the name of this machine
			gomail.WithTLSConfig(encryption),
		},
		dial: (&net.Dialer{}).DialContext,
	}
	standard := 587
	switch config.TLS {
	case StartTLS, "":
		s.options = append(s.options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case Implicit:
		standard = 465
		s.options = append(s.options, gomail.WithSSL())
		s.dial = (&tls.Dialer{Config: encryption}).DialContext
	case Plain:
		if !isLoopback(config.Host) {
			return nil, errors.New("mail: TLS \"none\" is for a mail server on this computer; use \"starttls\" or \"implicit\"")
		}
		standard = 25
		s.options = append(s.options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		return nil, fmt.Errorf("mail: TLS is %q; use \"starttls\", \"implicit\" or \"none\"", config.TLS)
	}
	s.options = append(s.options, gomail.WithPort(cmp.Or(config.Port, standard)))
	if config.Username != "" {
		s.options = append(s.options,
			gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin),
			gomail.WithUsername(config.Username),
			gomail.WithPassword(config.Password))
	}
	if _, err := gomail.NewClient(config.Host, s.options...); err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	s.config = config
	return s, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

var anAddress = regexp.MustCompile(`[^\s<>"]+@[^\s<>"]+`)

// Send connects, sends the message and hangs up. A server that says it will
// never take the message makes it ErrRejected.
func (s *SMTP) Send(ctx context.Context, m Mail) error {
	message, err := s.compose(m)
	if err != nil {
		return err
	}
	err = s.talk(ctx, message)
	var refused *gomail.SendError
	if !errors.As(err, &refused) {
		return err
	}
	// The library's words name the recipient, and so may the server's.
	err = errors.New(anAddress.ReplaceAllString(err.Error(), "(an address)"))
	if refused.ErrorCode() >= 500 {
		return fmt.Errorf("%w: %w", ErrRejected, err)
	}
	return err
}

// Check connects to the mail server, authenticates and hangs up: what doctor
// asks.
func (s *SMTP) Check(ctx context.Context) error { return s.talk(ctx) }

// talk connects, sends the messages and hangs up.
func (s *SMTP) talk(ctx context.Context, messages ...*gomail.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	// The library leaves a connection open whose greeting or authentication
	// failed, and does not hear the context end. So each talk has its own client,
	// and its connection ends with the context.
	dial := func(dialing context.Context, network, address string) (net.Conn, error) {
		conn, err := s.dial(dialing, network, address)
		if err == nil {
			context.AfterFunc(ctx, func() { conn.Close() })
		}
		return conn, err
	}
	client, err := gomail.NewClient(s.config.Host, append(slices.Clone(s.options), gomail.WithDialContextFunc(dial))...)
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return fmt.Errorf("mail: connect: %w", err)
	}
	if len(messages) > 0 {
		if err := client.SendWithSMTPClient(session, messages...); err != nil {
			return fmt.Errorf("mail: send: %w", err)
		}
	}
	// Taken is taken: an error of the farewell changes nothing.
	_ = client.CloseWithSMTPClient(session)
	return nil
}

func (s *SMTP) compose(m Mail) (*gomail.Msg, error) {
	if err := check(m); err != nil {
		return nil, err
	}
	message := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	message.FromMailAddress(&netmail.Address{Name: s.config.FromName, Address: s.config.From})
	if err := message.To(m.To); err != nil {
		return nil, ErrAddress // the library's error quotes the address
	}
	_, domain, _ := strings.Cut(s.config.From, "@")
	message.SetMessageIDWithValue(rand.Text() + "@" + domain) // not the name of this machine
	message.SetDateWithValue(s.config.Now())
	message.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834 §5: no vacation answers
	message.Subject(m.Subject)
	message.SetBodyString(gomail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		message.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	return message, nil
}
