// SPDX-License-Identifier: MIT

// A server of small pages, each of which leaves some 30 kB of garbage: pages PORT
package main

import (
	"fmt"
	"log"
	"math/rand"
	"net/http"
	"os"
	"sort"
	"strings"
)

func page(response http.ResponseWriter, _ *http.Request) {
	lines := make([]string, 500)
	for i := range lines {
		lines[i] = fmt.Sprintf("line %d", rand.Int31())
	}
	sort.Strings(lines)
	text := strings.Join(lines, "\n")
	fmt.Fprintf(response, "%s\nok\n", text[len(text)-200:])
}

func main() {
	http.HandleFunc("/", page)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
