package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"

	"github.com/postern-id/postern/internal/project"
)

// Config is everything that an operator can set, and the reference for it.
//
// Each setting has one name in three spellings, made from its key: mail.host
// is "mail: {host: …}" in the YAML file that --config or POSTERN_CONFIG names,
// POSTERN_MAIL_HOST in the environment and --mail-host on the command line. The
// later wins. A setting marked secret has no flag and no place in the file: it
// comes from the environment, or from the file that its sibling …_file names.
// Lists are separated by commas outside YAML. An unknown key in the file is an
// error; nothing has to be set for "postern dev".
type Config struct {
	Data             string   `yaml:"data" usage:"folder of the SQLite database and the master key"`
	Database         string   `yaml:"database" usage:"PostgreSQL URL; empty means SQLite in the data folder"`
	DatabaseFile     string   `yaml:"database_file" usage:"file that holds the PostgreSQL URL"`
	Connections      int      `yaml:"database_connections" usage:"connections to PostgreSQL that this server opens at most, or readers of the SQLite file; 0 means 10, or 4"`
	MasterKey        string   `yaml:"-" key:"master_key" usage:"32 random bytes in base64 that seal the signing keys" secret:"true"`
	MasterKeyFile    string   `yaml:"master_key_file" usage:"file that holds the master key; empty means master.key in the data folder"`
	OldMasterKey     string   `yaml:"-" key:"old_master_key" usage:"the master key before this one, while \"postern keys rewrap\" replaces it" secret:"true"`
	OldMasterKeyFile string   `yaml:"old_master_key_file" usage:"file that holds it"`
	URL              string   `yaml:"url" usage:"address that people and MCP clients reach this server at: the issuer of the first project, without a path"`
	Listen           []string `yaml:"listen" usage:"addresses to listen on"`
	TLS              TLS      `yaml:"tls"`
	BehindProxy      []string `yaml:"behind_proxy" usage:"networks of the reverse proxies whose X-Forwarded headers count, such as 10.1.0.0/16"`
	Migrate          bool     `yaml:"migrate" usage:"bring a PostgreSQL database up to date at start (SQLite always is)"`
	Mail             Mail     `yaml:"mail"`
	Log              Log      `yaml:"log"`
}

// TLS makes the listeners speak https. Both or neither.
type TLS struct {
	Certificate string `yaml:"certificate" usage:"file with the certificate chain, PEM"`
	Key         string `yaml:"key" usage:"file with its private key, PEM"`
}

// Mail is how one-time codes reach people.
type Mail struct {
	Transport    string `yaml:"transport" usage:"smtp, or console: codes are written to the log, on this computer only"`
	Host         string `yaml:"host" usage:"SMTP server"`
	Port         int    `yaml:"port" usage:"its port"`
	Security     string `yaml:"security" usage:"starttls, implicit (TLS from the first byte) or none (this computer only)"`
	Username     string `yaml:"username" usage:"name to log in with; empty means no login"`
	Password     string `yaml:"-" key:"password" usage:"password to log in with" secret:"true"`
	PasswordFile string `yaml:"password_file" usage:"file that holds the password"`
	From         string `yaml:"from" usage:"address that mails come from"`
	FromName     string `yaml:"from_name" usage:"name beside it"`
}

// Log is what the server writes to standard error.
type Log struct {
	Level  string `yaml:"level" usage:"debug, info, warn or error"`
	Format string `yaml:"format" usage:"json or text"`
}

// Defaults is the configuration before anything is set.
func Defaults() Config {
	return Config{
		Data:   "data",
		URL:    "http://localhost:4000",
		Listen: []string{"127.0.0.1:4000", "[::1]:4000"},
		Mail:   Mail{Transport: "smtp", Port: 587, Security: "starttls", FromName: "Postern"},
		Log:    Log{Level: "info", Format: "json"},
	}
}

// setting is one field of a Config, by its key.
type setting struct {
	key    string
	usage  string
	secret bool
	value  reflect.Value
}

// settings lists every field of c, in the order of the struct.
func (c *Config) settings() []setting { return fields("", reflect.ValueOf(c).Elem()) }

func fields(prefix string, v reflect.Value) []setting {
	var all []setting
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := f.Tag.Get("yaml")
		if key == "-" {
			key = f.Tag.Get("key")
		}
		if f.Type.Kind() == reflect.Struct {
			all = append(all, fields(prefix+key+".", v.Field(i))...)
			continue
		}
		all = append(all, setting{prefix + key, f.Tag.Get("usage"), f.Tag.Get("secret") != "", v.Field(i)})
	}
	return all
}

func (s setting) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.key) }

func (s setting) env() string {
	return "POSTERN_" + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

func (s setting) set(text string) error {
	switch p := s.value.Addr().Interface().(type) {
	case *string:
		*p = text
	case *[]string:
		*p = slices.DeleteFunc(strings.Split(text, ","), func(item string) bool { return strings.TrimSpace(item) == "" })
		for i, item := range *p {
			(*p)[i] = strings.TrimSpace(item)
		}
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("is %q; write a whole number", text)
		}
		*p = n
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("is %q; write true or false", text)
		}
		*p = b
	}
	return nil
}

// text is the value as "config print" shows it: secrets are masked.
func (s setting) text() string {
	switch v := s.value.Interface().(type) {
	case string:
		if s.secret && v != "" {
			return "(set)"
		}
		if s.key == "database" {
			return maskedURL(v)
		}
		return v
	case []string:
		return strings.Join(v, ",")
	default:
		return fmt.Sprint(v)
	}
}

// maskedURL is a database's URL without its password, wherever that stands.
func maskedURL(text string) string {
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || !isPostgres(u) || u.Opaque != "" {
		return "(set, not a URL)" // a password may stand anywhere in it
	}
	query := u.Query()
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query.Set(name, "xxxxx")
			u.RawQuery = query.Encode()
		}
	}
	return u.Redacted()
}

// addFlags offers the named settings, or all but secrets when none is named,
// as flags. Their values are read by loadConfig.
func addFlags(flags *pflag.FlagSet, keys ...string) {
	c := Defaults()
	for _, s := range c.settings() {
		if s.secret || (len(keys) > 0) != slices.Contains(keys, s.key) || flags.Lookup(s.flag()) != nil {
			continue
		}
		def := s.text()
		if _, ok := s.value.Interface().(bool); ok {
			flags.Bool(s.flag(), false, s.usage)
			continue
		}
		flags.String(s.flag(), def, s.usage)
	}
}

// loadConfig reads defaults, file, environment and the flags that were given,
// in this order, and names every problem.
func loadConfig(flags *pflag.FlagSet, environ func(string) (string, bool)) (Config, []string) {
	c := Defaults()
	var problems []string

	path := ""
	if text, ok := environ("POSTERN_CONFIG"); ok {
		path = text
	}
	if f := flags.Lookup("config"); f != nil && f.Changed {
		path = f.Value.String()
	}
	if path != "" {
		if err := readYAML(path, &c); err != nil {
			problems = append(problems, err.Error())
		}
	}
	for _, s := range c.settings() {
		if text, ok := environ(s.env()); ok {
			if err := s.set(text); err != nil {
				problems = append(problems, s.env()+" "+err.Error())
			}
		}
		if f := flags.Lookup(s.flag()); f != nil && f.Changed {
			if err := s.set(f.Value.String()); err != nil {
				problems = append(problems, "--"+s.flag()+" "+err.Error())
			}
		}
	}
	for _, s := range []struct {
		key, file string
		value     *string
	}{
		{"database", c.DatabaseFile, &c.Database},
		{"mail.password", c.Mail.PasswordFile, &c.Mail.Password},
	} {
		if s.file == "" {
			continue
		}
		if *s.value != "" {
			problems = append(problems, fmt.Sprintf("%s and %s_file are both set; keep one", s.key, s.key))
			continue
		}
		text, err := os.ReadFile(s.file)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s_file: %s", s.key, plain(err)))
			continue
		}
		*s.value = strings.TrimSpace(string(text))
	}
	if c.MasterKey != "" && c.MasterKeyFile != "" {
		problems = append(problems, "master_key and master_key_file are both set; keep one")
	}
	if c.OldMasterKey != "" && c.OldMasterKeyFile != "" {
		problems = append(problems, "old_master_key and old_master_key_file are both set; keep one")
	}
	return c, problems
}

func readYAML(path string, c *Config) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("config file: %s", plain(err))
	}
	defer f.Close()
	err = yaml.NewDecoder(f, yaml.Strict()).Decode(c)
	if err != nil && err.Error() != "EOF" {
		return fmt.Errorf("config file %s: %s", path, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	return nil
}

// plain is an error of the file system without the name of the call.
func plain(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Path + ": " + p.Err.Error()
	}
	return err.Error()
}

// check names what makes a server with this configuration unsafe or useless
// (decision 36). What needs the data itself is checked where it is opened.
func (c Config) check() []string {
	var problems []string
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	if err := project.CheckURL(c.URL); err != nil {
		add("url: %s", err)
	}
	if c.Connections < 0 {
		add("database_connections is %d; use 1 or more, or 0 for the default", c.Connections)
	}
	proxies, wide := c.proxies(&problems)
	if wide {
		add("behind_proxy names every address; name the networks of your proxies, such as 10.1.0.0/16")
	}
	if len(c.Listen) == 0 {
		add("listen is empty; use 127.0.0.1:4000")
	}
	open := false // other computers can reach a listener
	for _, address := range c.Listen {
		host, port, err := net.SplitHostPort(address)
		if n, convErr := strconv.Atoi(port); err != nil || convErr != nil || n < 0 || n > 65535 {
			add("listen %q is not an address and a port; use one such as 127.0.0.1:4000", address)
			continue
		}
		if project.Loopback(host) {
			continue
		}
		open = true
		if c.TLS.Certificate == "" && len(proxies) == 0 {
			add("listen %q is reachable from other computers without TLS; set tls.certificate and tls.key, or name the proxy in front by behind_proxy", address)
		}
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		add("tls.certificate and tls.key belong together; set both or neither")
	}
	u, err := url.Parse(c.URL)
	public := err == nil && !project.Loopback(u.Hostname())
	c.checkMail(open || public || len(proxies) > 0, add)
	checkDatabase(c.Database, add)
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		add("log.level is %q; use debug, info, warn or error", c.Log.Level)
	}
	if !slices.Contains([]string{"json", "text"}, c.Log.Format) {
		add("log.format is %q; use json or text", c.Log.Format)
	}
	return problems
}

// checkMail refuses what would send no codes, or show them to others. reached
// says that people on other computers use this server, perhaps through a proxy.
func (c Config) checkMail(reached bool, add func(string, ...any)) {
	switch c.Mail.Transport {
	case "console":
		if reached {
			add("mail.transport console writes codes to the log and is for this computer only; a server that others reach needs smtp")
		}
		return
	case "smtp":
	default:
		add("mail.transport is %q; use smtp, or console on this computer", c.Mail.Transport)
		return
	}
	if c.Mail.Host == "" {
		add("there is no mail transport: set mail.host to the SMTP server that carries one-time codes; on your own computer, --mail-transport console writes them to the log")
		return
	}
	if c.Mail.From == "" {
		add("mail.from is empty; set the address that mails come from")
	}
	switch c.Mail.Security {
	case "starttls", "implicit":
	case "none":
		if !project.Loopback(c.Mail.Host) {
			add("mail.security none sends codes in clear to %s; use starttls or implicit", c.Mail.Host)
		}
	default:
		add("mail.security is %q; use starttls, implicit or none", c.Mail.Security)
	}
	if c.Mail.Username != "" && c.Mail.Password == "" {
		add("mail.username is set without a password; set POSTERN_MAIL_PASSWORD or mail.password_file")
	}
}

// unsafeDatabase is what checkDatabase says, for a command that opens the database.
func (c Config) unsafeDatabase() error {
	var problems []string
	checkDatabase(c.Database, func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) })
	if len(problems) > 0 {
		return &fault{problems: problems, next: settingsHelp}
	}
	return nil
}

func isPostgres(u *url.URL) bool { return u.Scheme == "postgres" || u.Scheme == "postgresql" }

// checkDatabase refuses a PostgreSQL URL that is none, or that goes to another
// computer in clear.
func checkDatabase(database string, add func(string, ...any)) {
	if database == "" {
		return
	}
	u, err := url.Parse(database)
	if err != nil || !isPostgres(u) {
		add("database is not a PostgreSQL URL; use one such as postgres://postern@db.example.com/postern?sslmode=verify-full")
		return
	}
	host := u.Hostname()
	for _, name := range []string{"PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLMODE"} {
		if os.Getenv(name) != "" {
			add("%s is set, and changes what database leads to; unset it and write the whole URL", name)
		}
	}
	if h := u.Query().Get("host"); h != "" {
		host = h
	}
	local := !slices.ContainsFunc(strings.Split(host, ","), func(one string) bool { // several are tried in turn
		return one != "" && !strings.HasPrefix(one, "/") && !project.Loopback(one)
	})
	secure := slices.Contains([]string{"require", "verify-ca", "verify-full"}, u.Query().Get("sslmode"))
	if !local && !secure {
		add("database is on %s without TLS; add sslmode=verify-full to its URL", host)
	}
}

// proxies parses behind_proxy. wide is true when a network holds everybody.
func (c Config) proxies(problems *[]string) (networks []netip.Prefix, wide bool) {
	for _, text := range c.BehindProxy {
		p, err := netip.ParsePrefix(text)
		if a, addrErr := netip.ParseAddr(text); err != nil && addrErr == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			*problems = append(*problems, fmt.Sprintf("behind_proxy has %q; name a network such as 10.1.0.0/16", text))
			continue
		}
		wide = wide || p.Bits() == 0
		networks = append(networks, p)
	}
	return networks, wide
}
