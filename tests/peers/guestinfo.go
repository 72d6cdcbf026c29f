// What Go programs do in a VMware guest, with the library that they do it with: CPUID, iopl, IN.
package main

import (
	"fmt"
	"os"

	"github.com/vmware/vmw-guestinfo/rpcvmx"
	"github.com/vmware/vmw-guestinfo/vmcheck"
)

func main() {
	virtual, err := vmcheck.IsVirtualWorld(false)
	if err != nil || !virtual {
		fmt.Println("no VMware:", err)
		os.Exit(1)
	}
	config := rpcvmx.NewConfig()
	for _, key := range os.Args[1:] {
		value, err := config.String(key, "nothing")
		fmt.Println(value, err)
	}
	if err := config.SetString("answer", "from Go"); err != nil {
		os.Exit(2)
	}
}
