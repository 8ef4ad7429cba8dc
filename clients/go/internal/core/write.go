package core

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"
)

// object is a JSON object that is being written. Each method adds a member; end ends it.
type object []byte

func appendObject(dst []byte, action string) object {
	dst = append(dst, `{"action":"`...)
	dst = append(dst, action...)
	return append(dst, '"')
}

const usualSize = 256 // bytes of a message, of which few have more

func newObject(action string) object { return appendObject(make(object, 0, usualSize), action) }

func (o object) name(name string) object {
	o = append(o, ',', '"')
	o = append(o, name...)
	return append(o, '"', ':')
}

func (o object) text(name, value string) object {
	return appendText(o.name(name), value)
}

// textIf adds a text unless it is empty.
func (o object) textIf(name, value string) object {
	if value == "" {
		return o
	}
	return o.text(name, value)
}

func (o object) raw(name string, value []byte) object {
	return append(o.name(name), value...)
}

// rawIf adds a value unless it is empty.
func (o object) rawIf(name string, value []byte) object {
	if len(value) == 0 {
		return o
	}
	return o.raw(name, value)
}

func (o object) number(name string, value int64) object {
	return strconv.AppendInt(o.name(name), value, 10)
}

func (o object) float(name string, value float64) object {
	return strconv.AppendFloat(o.name(name), value, 'f', -1, 64)
}

func (o object) truth(name string, value bool) object {
	return strconv.AppendBool(o.name(name), value)
}

func (o object) end() []byte { return append(o, '}') }

const hexDigits = "0123456789abcdef"

// AppendText appends a text as JSON. What is not UTF-8 in it is replaced, as in encoding/json.
func AppendText(dst []byte, text string) []byte { return appendText(dst, text) }

func appendText[T ~[]byte](dst T, text string) T {
	dst = append(dst, '"')
	plain := 0           // where what needs no escape begins
	data := []byte(text) // which copies nothing, as it is only read
	for i := 0; i < len(text); {
		if i+8 <= len(data) {
			if eight := binary.LittleEndian.Uint64(data[i:]); special(eight)|eight&highBits == 0 {
				i += 8
				continue
			}
		}
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(text[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		dst = append(dst, text[plain:i]...)
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, "\uFFFD"...)
		}
		i += size
		plain = i
	}
	dst = append(dst, text[plain:]...)
	return append(dst, '"')
}
