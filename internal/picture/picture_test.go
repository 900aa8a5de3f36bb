package picture_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"testing"

	"github.com/postern-id/postern/internal/picture"
)

var red = color.NRGBA{0xcc, 0x11, 0x22, 0xff}

// drawn is a red picture with a transparent left column.
func drawn(width, height int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for x := width / 4; x < width; x++ {
		for y := range height {
			m.SetNRGBA(x, y, red)
		}
	}
	return m
}

func pngOf(t testing.TB, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, drawn(width, height)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// claims changes the size in the header of a PNG, checksum included.
func claims(file []byte, width, height uint32) []byte {
	file = bytes.Clone(file)
	binary.BigEndian.PutUint32(file[16:], width)
	binary.BigEndian.PutUint32(file[20:], height)
	binary.BigEndian.PutUint32(file[29:], crc32.ChecksumIEEE(file[12:29]))
	return file
}

func TestLogo(t *testing.T) {
	var asJPEG, asGIF bytes.Buffer
	if err := errors.Join(jpeg.Encode(&asJPEG, drawn(64, 64), nil), gif.Encode(&asGIF, drawn(64, 64), nil)); err != nil {
		t.Fatal(err)
	}
	// One black pixel, lossless.
	asWebP, err := base64.StdEncoding.DecodeString("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		file          []byte
		width, height int
	}{
		"a small one keeps its size":     {pngOf(t, 32, 16), 32, 16},
		"exactly as large as allowed":    {pngOf(t, 2048, 2048), 128, 128},
		"a wide one keeps its form":      {pngOf(t, 1000, 500), 128, 64},
		"a line keeps one pixel":         {pngOf(t, 2048, 1), 128, 1},
		"JPEG":                           {asJPEG.Bytes(), 64, 64},
		"GIF":                            {asGIF.Bytes(), 64, 64},
		"WebP":                           {asWebP, 1, 1},
		"what stands behind it is left":  {append(pngOf(t, 32, 32), "<script>alert(1)</script>"...), 32, 32},
		"256 KiB with what is behind it": {append(pngOf(t, 8, 8), make([]byte, picture.MaxBytes-len(pngOf(t, 8, 8)))...), 8, 8},
	} {
		t.Run(name, func(t *testing.T) {
			logo, err := picture.Logo(test.file)
			if err != nil {
				t.Fatal(err)
			}
			made, err := png.Decode(bytes.NewReader(logo))
			if err != nil {
				t.Fatal(err)
			}
			if got := made.Bounds(); got != image.Rect(0, 0, test.width, test.height) {
				t.Errorf("bounds %v", got)
			}
			if bytes.Contains(logo, []byte("script")) {
				t.Error("it carries what was behind the picture")
			}
		})
	}
	t.Run("colour and transparency stay", func(t *testing.T) {
		logo, err := picture.Logo(pngOf(t, 512, 512))
		if err != nil {
			t.Fatal(err)
		}
		made, _ := png.Decode(bytes.NewReader(logo))
		if got := color.NRGBAModel.Convert(made.At(100, 64)); got != red {
			t.Errorf("right: %v", got)
		}
		if _, _, _, a := made.At(5, 64).RGBA(); a != 0 {
			t.Errorf("left: alpha %d", a)
		}
	})
}

func TestLogoRefuses(t *testing.T) {
	whole := pngOf(t, 64, 64)
	for name, file := range map[string][]byte{
		"nothing":               nil,
		"SVG":                   []byte(`<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><script>alert(1)</script></svg>`),
		"HTML":                  []byte("<!doctype html><title>Blocked</title>"),
		"half a picture":        whole[:len(whole)/2],
		"more than 256 KiB":     append(bytes.Clone(whole), make([]byte, picture.MaxBytes)...),
		"2049 wide":             pngOf(t, 2049, 8),
		"2049 high":             pngOf(t, 8, 2049),
		"a claim of gigapixels": claims(whole, 1<<30, 1<<30),
		"no pixels":             claims(whole, 0, 0),
		"BMP":                   append([]byte("BM"), make([]byte, 60)...),
	} {
		t.Run(name, func(t *testing.T) {
			if logo, err := picture.Logo(file); !errors.Is(err, picture.ErrUnfit) || logo != nil {
				t.Errorf("got %d bytes, %v", len(logo), err)
			}
		})
	}
}

// Whatever a file is, it is refused or becomes a PNG within the bounds.
func FuzzLogo(f *testing.F) {
	f.Add(pngOf(f, 3, 200))
	f.Add([]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"))
	f.Add([]byte("RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00/\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00"))
	f.Fuzz(func(t *testing.T, file []byte) {
		logo, err := picture.Logo(file)
		if err != nil {
			if !errors.Is(err, picture.ErrUnfit) {
				t.Fatal(err)
			}
			return
		}
		made, err := png.DecodeConfig(bytes.NewReader(logo))
		if err != nil || made.Width < 1 || made.Height < 1 || made.Width > 128 || made.Height > 128 {
			t.Fatalf("%d by %d, %v", made.Width, made.Height, err)
		}
	})
}
