// Command xoauth2 is a small web client on golang.org/x/oauth2, for recording:
// it registers itself for a secret in the body, asks for no scope and no
// resource, and lets the library find out how to authenticate.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/oauth2"
)

func main() {
	answers := make(chan url.Values, 1)
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("CALLBACK_PORT"))
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "Connected.")
		answers <- r.URL.Query()
	}))
	issuer, callback := os.Getenv("ISSUER"), "http://"+listener.Addr().String()+"/callback"
	body, err := json.Marshal(map[string]any{
		"client_name": "Desk", "redirect_uris": []string{callback}, "token_endpoint_auth_method": "client_secret_post",
		"grant_types": []string{"authorization_code", "refresh_token"},
	})
	if err != nil {
		log.Fatal(err)
	}
	resp, err := http.Post(issuer+"/v1/oauth2/register", "application/json", bytes.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	var client struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&client); err != nil {
		log.Fatal(err)
	}
	config := &oauth2.Config{
		ClientID: client.ID, ClientSecret: client.Secret, RedirectURL: callback,
		Endpoint: oauth2.Endpoint{AuthURL: issuer + "/oauth/authorize", TokenURL: issuer + "/v1/oauth2/token"},
	}
	verifier := oauth2.GenerateVerifier()
	fmt.Println(config.AuthCodeURL("desk-state", oauth2.S256ChallengeOption(verifier)))
	ctx := context.Background()
	token, err := config.Exchange(ctx, (<-answers).Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		log.Fatal(err)
	}
	token.Expiry = time.Now() // so that the next use is a refresh
	request, err := http.NewRequest(http.MethodPost, os.Getenv("MCP_URL"), bytes.NewReader([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)))
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	list, err := config.Client(ctx, token).Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer list.Body.Close()
	text, err := io.ReadAll(list.Body)
	fmt.Println(list.Status, len(text), err)
}
