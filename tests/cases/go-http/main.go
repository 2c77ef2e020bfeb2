// SPDX-License-Identifier: MIT

// An HTTP server, and a client that treats the bodies of its responses well or badly.
//
//	go-http server ADDRESS IDLE-TIMEOUT
//	go-http client URL INTERVAL unread|read|read-close|close
//
// The server has /small and /large; it closes connections that have been idle for IDLE-TIMEOUT (0s: never).
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	smallBytes = 200     // comes with the header, and is in the client's bufio.Reader at once
	largeBytes = 2 << 20 // most of it stays in the kernel until somebody reads it
)

func main() {
	log.SetFlags(0)
	var err error
	switch arguments := os.Args[1:]; {
	case len(arguments) == 3 && arguments[0] == "server":
		err = serve(arguments[1], arguments[2])
	case len(arguments) == 4 && arguments[0] == "client" && treat[arguments[3]] != nil:
		err = request(arguments[1], arguments[2], treat[arguments[3]])
	default:
		log.Fatal("usage: go-http server ADDRESS IDLE-TIMEOUT | client URL INTERVAL unread|read|read-close|close")
	}
	log.Fatal(err)
}

// ---- server ----

func serve(address, idleTimeout string) error {
	timeout, err := time.ParseDuration(idleTimeout)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/small", answer(smallBytes))
	mux.HandleFunc("/large", answer(largeBytes))
	fmt.Println("ready")
	return (&http.Server{Handler: mux, IdleTimeout: timeout}).Serve(listener)
}

func answer(bytes int) http.HandlerFunc {
	body := make([]byte, bytes)
	return func(response http.ResponseWriter, _ *http.Request) {
		response.Header().Set("Content-Length", strconv.Itoa(bytes))
		response.Write(body)
	}
}

// ---- client ----

// What a client does with the body of a response.
var treat = map[string]func(io.ReadCloser) error{
	"unread": func(io.ReadCloser) error { return nil },
	"read": func(body io.ReadCloser) error {
		_, err := io.ReadAll(body)
		return err
	},
	"read-close": func(body io.ReadCloser) error {
		defer body.Close()
		_, err := io.ReadAll(body)
		return err
	},
	"close": io.ReadCloser.Close,
}

func request(url, interval string, treat func(io.ReadCloser) error) error {
	every, err := time.ParseDuration(interval)
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	client := &http.Client{Transport: transport}
	ticker := time.NewTicker(every)
	for first := true; ; first = false {
		response, err := client.Get(url)
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, response.Status)
		}
		if err := treat(response.Body); err != nil {
			return err
		}
		if first {
			fmt.Println("ready")
		}
		<-ticker.C
	}
}
