package redistest

import "syscall"

// withParent ends the server with the test program, also when that is killed and no clean-up runs.
func withParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
