package dev

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// FolderName is where "postern dev" keeps everything, in the working folder.
const FolderName = ".postern"

// marker is the file that tells a development folder from any other. It holds
// the issuer of the last run.
const marker = "development"

// OpenFolder makes dir a development folder, or takes it if it is one. A folder
// with data of another origin is refused; other files in it, such as the
// programs that "make dev" built, do not matter. issuer is noted for the
// commands that work beside the server.
func OpenFolder(dir, issuer string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	_, ours := Issuer(dir)
	for _, name := range []string{"postern.db", "master.key"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil && !ours {
			return fmt.Errorf("the folder %s holds data that is not for development; move it away or start in another folder", dir)
		}
	}
	return os.WriteFile(filepath.Join(dir, marker), []byte(issuer+"\n"), 0o600)
}

// Issuer reports whether dir is a development folder, and the issuer of its
// last run.
func Issuer(dir string) (string, bool) {
	text, err := os.ReadFile(filepath.Join(dir, marker))
	if err != nil {
		return "", false
	}
	return strings.TrimSpace(string(text)), true
}
