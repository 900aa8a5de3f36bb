// Package picture makes small safe logos of files that strangers and operators
// give: Logo reads a PNG, JPEG, GIF or WebP file within bounds and draws it anew
// as a PNG of at most 128 by 128 pixels. What a browser gets is ours to the last
// byte: no metadata, no second format behind the first, no script.
//
// It knows no SVG, which is a program, and it fetches and keeps nothing.
package picture

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	_ "image/gif"  // a format that Logo reads
	_ "image/jpeg" // a format that Logo reads
	"image/png"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // a format that Logo reads
)

// Bounds of what Logo reads and makes.
const (
	MaxBytes  = 256 << 10 // of a file
	maxPixels = 2048      // in width and in height
	size      = 128       // of a logo, the longer side
)

// ErrUnfit says that a file is no picture that Logo takes.
var ErrUnfit = errors.New("picture: use a PNG, JPEG, GIF or WebP file of at most 256 KiB and 2048 by 2048 pixels")

// Logo draws the picture of a file as a PNG, smaller if it is larger than 128
// pixels, in its own proportions; of an animation the first image. Every error
// is ErrUnfit. It takes some 100 ms and 80 MB for the largest picture: callers
// that strangers can wake let one run at a time.
func Logo(file []byte) ([]byte, error) {
	if len(file) > MaxBytes {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrUnfit, len(file))
	}
	// Before anything is unpacked: a few bytes can claim any number of pixels.
	config, format, err := image.DecodeConfig(bytes.NewReader(file))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnfit, err)
	case config.Width < 1 || config.Height < 1 || config.Width > maxPixels || config.Height > maxPixels:
		return nil, fmt.Errorf("%w: the %s picture has %d by %d pixels", ErrUnfit, format, config.Width, config.Height)
	}
	from, _, err := image.Decode(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	// The image of a GIF may be smaller than what its header says.
	width, height := from.Bounds().Dx(), from.Bounds().Dy()
	if width < 1 || height < 1 || width > maxPixels || height > maxPixels {
		return nil, fmt.Errorf("%w: its image has %d by %d pixels", ErrUnfit, width, height)
	}
	if longer := max(width, height); longer > size {
		width, height = max(1, width*size/longer), max(1, height*size/longer)
	}
	to := image.NewNRGBA(image.Rect(0, 0, width, height))
	draw.CatmullRom.Scale(to, to.Bounds(), from, from.Bounds(), draw.Src, nil)
	var out bytes.Buffer
	if err := png.Encode(&out, to); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	return out.Bytes(), nil
}
