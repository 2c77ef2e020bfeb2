// SPDX-License-Identifier: MIT

// A QUIC server that opens a bidirectional stream for each message, and a client that reads the messages.
//
//	quic-go server ADDRESS MESSAGE-BYTES INTERVAL
//	quic-go client ADDRESS leak|drain|cancel
//
// The message is preceded by its length, so that the client knows when it has all of it, and may forget the end of the
// stream, which comes in a frame of its own.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/big"
	"os"
	"strconv"
	"time"

	"github.com/lucas-clemente/quic-go"
)

const (
	protocol  = "laggard-messages"
	finAfter  = 5 * time.Millisecond // so that the FIN does not share a frame with the message
	noStreams = 1 << 32              // "unlimited": with the default of 100, a leaking client stalls instead of growing
)

func main() {
	log.SetFlags(0)
	var err error
	switch arguments := os.Args[1:]; {
	case len(arguments) == 4 && arguments[0] == "server":
		err = serve(arguments[1], arguments[2], arguments[3])
	case len(arguments) == 3 && arguments[0] == "client" && finish[arguments[2]] != nil:
		err = receive(arguments[1], finish[arguments[2]])
	default:
		log.Fatal("usage: quic-go server ADDRESS MESSAGE-BYTES INTERVAL | client ADDRESS leak|drain|cancel")
	}
	log.Fatal(err)
}

// ---- server ----

func serve(address, size, interval string) error {
	bytes, err := strconv.ParseUint(size, 10, 16)
	if err != nil {
		return err
	}
	every, err := time.ParseDuration(interval)
	if err != nil {
		return err
	}
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	listener, err := quic.ListenAddr(address, &tls.Config{
		Certificates: []tls.Certificate{certificate},
		NextProtos:   []string{protocol},
	}, nil)
	if err != nil {
		return err
	}
	fmt.Println("ready")

	message := make([]byte, 4+bytes)
	binary.BigEndian.PutUint32(message, uint32(bytes))
	for {
		connection, err := listener.Accept(context.Background())
		if err != nil {
			return err
		}
		go sendMessages(connection, message, every)
	}
}

func sendMessages(connection quic.Connection, message []byte, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for range ticker.C {
		stream, err := connection.OpenStreamSync(connection.Context())
		if err != nil {
			return
		}
		go sendMessage(stream, message)
	}
}

// The server itself completes its streams: it sends all, closes, and waits until the client has closed.
func sendMessage(stream quic.Stream, message []byte) {
	stream.Write(message)
	time.Sleep(finAfter)
	stream.Close()
	io.Copy(io.Discard, stream)
}

func selfSigned() (tls.Certificate, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, err
}

// ---- client ----

// What a client does with a stream whose message it has read.
var finish = map[string]func(quic.Stream) error{
	// Close is for the write side only: quic-go keeps the stream until its end has been read.
	"leak": quic.Stream.Close,
	"drain": func(stream quic.Stream) error {
		if _, err := io.Copy(io.Discard, stream); err != nil {
			return err
		}
		return stream.Close()
	},
	"cancel": func(stream quic.Stream) error {
		stream.CancelRead(0)
		return stream.Close()
	},
}

func receive(address string, finish func(quic.Stream) error) error {
	connection, err := quic.DialAddr(address,
		&tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}},
		&quic.Config{MaxIncomingStreams: noStreams})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		stream, err := connection.AcceptStream(context.Background())
		if err != nil {
			return err
		}
		go func() {
			if err := receiveMessage(stream, finish); err != nil {
				log.Fatal(err)
			}
		}()
	}
}

func receiveMessage(stream quic.Stream, finish func(quic.Stream) error) error {
	var size uint32
	if err := binary.Read(stream, binary.BigEndian, &size); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, stream, int64(size)); err != nil {
		return err
	}
	return finish(stream)
}
