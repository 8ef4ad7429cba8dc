package core

import (
	"encoding/binary"
	"encoding/json"
	"iter"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// What a scan returns in place of the end of a value.
const (
	invalid = -1
	tooDeep = -2
)

// skip returns the end of the JSON value that begins at data[i]. It checks all of it, as strictly
// as servers do (spec, 3.5): no half of a surrogate pair, no number beyond those of 64 bits.
// depth is how many levels of arrays and objects it may have.
func skip(data []byte, i, depth int) int {
	if i >= len(data) {
		return invalid
	}
	switch c := data[i]; c {
	case '"':
		return skipText(data, i)
	case '{':
		return skipObject(data, i, depth-1)
	case '[':
		return skipArray(data, i, depth-1)
	case 't':
		return skipWord(data, i, "true")
	case 'f':
		return skipWord(data, i, "false")
	case 'n':
		return skipWord(data, i, "null")
	default:
		if c == '-' || '0' <= c && c <= '9' {
			return skipNumber(data, i)
		}
		return invalid
	}
}

func skipObject(data []byte, i, depth int) int {
	if depth < 0 {
		return tooDeep
	}
	i = skipSpace(data, i+1)
	if i < len(data) && data[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(data) || data[i] != '"' {
			return invalid
		}
		if i = skipText(data, i); i < 0 {
			return i
		}
		if i = skipSpace(data, i); i >= len(data) || data[i] != ':' {
			return invalid
		}
		if i = skip(data, skipSpace(data, i+1), depth); i < 0 {
			return i
		}
		if i = skipSpace(data, i); i >= len(data) {
			return invalid
		}
		switch data[i] {
		case ',':
			i = skipSpace(data, i+1)
		case '}':
			return i + 1
		default:
			return invalid
		}
	}
}

func skipArray(data []byte, i, depth int) int {
	if depth < 0 {
		return tooDeep
	}
	i = skipSpace(data, i+1)
	if i < len(data) && data[i] == ']' {
		return i + 1
	}
	for {
		if i = skip(data, i, depth); i < 0 {
			return i
		}
		if i = skipSpace(data, i); i >= len(data) {
			return invalid
		}
		switch data[i] {
		case ',':
			i = skipSpace(data, i+1)
		case ']':
			return i + 1
		default:
			return invalid
		}
	}
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\r' || data[i] == '\t') {
		i++
	}
	return i
}

func skipWord(data []byte, i int, word string) int {
	if end := i + len(word); end <= len(data) && string(data[i:end]) == word {
		return end
	}
	return invalid
}

// skipText takes it for granted that data is UTF-8.
func skipText(data []byte, i int) int {
	for i++; i < len(data); i++ {
		if i+8 <= len(data) {
			found := special(binary.LittleEndian.Uint64(data[i:]))
			if found == 0 {
				i += 7
				continue
			}
			i += bits.TrailingZeros64(found) / 8
		}
		switch c := data[i]; {
		case c == '"':
			return i + 1
		case c < ' ':
			return invalid
		case c == '\\':
			if i = skipEscape(data, i); i < 0 {
				return invalid
			}
		}
	}
	return invalid
}

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// special marks the first of eight bytes that is a quote, a backslash or a control character, by
// its high bit; marks behind that one may be wrong. 0: there is none.
func special(b uint64) uint64 {
	quotes, slashes := b^('"'*lowBits), b^('\\'*lowBits)
	return ((quotes-lowBits)&^quotes | (slashes-lowBits)&^slashes | (b-' '*lowBits)&^b) & highBits
}

// skipEscape returns the last byte of an escape sequence, which for a surrogate is a pair.
func skipEscape(data []byte, i int) int {
	if i+1 >= len(data) {
		return invalid
	}
	switch data[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
	default:
		return invalid
	}
	unit := hex4(data, i+2)
	switch {
	case unit < 0 || 0xDC00 <= unit && unit < 0xE000:
		return invalid
	case unit < 0xD800 || unit >= 0xE000:
		return i + 5
	}
	if i+7 >= len(data) || data[i+6] != '\\' || data[i+7] != 'u' {
		return invalid
	}
	if low := hex4(data, i+8); low < 0xDC00 || low >= 0xE000 {
		return invalid
	}
	return i + 11
}

func hex4(data []byte, i int) int {
	if i+4 > len(data) {
		return invalid
	}
	unit := 0
	for _, c := range data[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			unit = unit<<4 | int(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			unit = unit<<4 | int(c|0x20-'a'+10)
		default:
			return invalid
		}
	}
	return unit
}

const mostDigits = 300 // of a number that certainly is not beyond 64 bits

func skipNumber(data []byte, i int) int {
	begin, mayBeHuge := i, false
	if data[i] == '-' {
		i++
	}
	whole := skipDigits(data, i)
	if whole == i || data[i] == '0' && whole > i+1 {
		return invalid
	}
	if i = whole; i < len(data) && data[i] == '.' {
		end := skipDigits(data, i+1)
		if end == i+1 {
			return invalid
		}
		i = end
	}
	if i < len(data) && data[i]|0x20 == 'e' {
		if i++; i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		end := skipDigits(data, i)
		if end == i {
			return invalid
		}
		i, mayBeHuge = end, true
	}
	if mayBeHuge || i-begin > mostDigits {
		if _, err := strconv.ParseFloat(string(data[begin:i]), 64); err != nil {
			return invalid
		}
	}
	return i
}

func skipDigits(data []byte, i int) int {
	for i < len(data) && '0' <= data[i] && data[i] <= '9' {
		i++
	}
	return i
}

// members yields the members of an object that has been checked; of anything else none.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		if len(object) == 0 || object[0] != '{' {
			return
		}
		i := skipSpace(object, 1)
		for i < len(object) && object[i] == '"' {
			end := skipText(object, i)
			name := object[i:end]
			begin := skipSpace(object, skipSpace(object, end)+1)
			if end = skip(object, begin, math.MaxInt); !yield(name, object[begin:end]) {
				return
			}
			if i = skipSpace(object, end); object[i] == ',' {
				i = skipSpace(object, i+1)
			}
		}
	}
}

// elements yields the elements of an array that has been checked; of anything else none.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(array) == 0 || array[0] != '[' {
			return
		}
		for i := skipSpace(array, 1); i < len(array) && array[i] != ']'; {
			end := skip(array, i, math.MaxInt)
			if !yield(array[i:end]) {
				return
			}
			if i = skipSpace(array, end); array[i] == ',' {
				i = skipSpace(array, i+1)
			}
		}
	}
}

// The functions below read values that have been checked. What is of another kind counts as
// missing.

// textOf returns a text.
func textOf(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	inner := value[1 : len(value)-1]
	for _, c := range inner {
		if c == '\\' {
			var text string
			err := json.Unmarshal(value, &text)
			return text, err == nil
		}
	}
	return string(inner), true
}

// textOr returns a text, or nothing.
func textOr(value []byte) string {
	text, _ := textOf(value)
	return text
}

// LargestNumber is the largest whole number that every language reads.
const LargestNumber = 1<<53 - 1

// numberOf returns a whole number from 0.
func numberOf(value []byte) (int64, bool) {
	if len(value) == 0 || len(value) > 16 {
		return 0, false
	}
	number, err := strconv.ParseInt(string(value), 10, 64)
	return number, err == nil && 0 <= number && number <= LargestNumber
}

// secondsOf returns a number.
func secondsOf(value []byte) float64 {
	number, _ := strconv.ParseFloat(string(value), 64)
	return number
}

func isTrue(value []byte) bool { return string(value) == "true" }

func isNull(value []byte) bool { return len(value) == 0 || value[0] == 'n' }

// Check returns a value without what stands around it, and nil unless it is one JSON value in
// UTF-8 of at most so many levels. The error says why.
func Check(value []byte, depth int) ([]byte, string) {
	begin := skipSpace(value, 0)
	end := skip(value, begin, depth)
	switch {
	case end == tooDeep:
		return nil, "it is nested too deeply"
	case end < 0 || skipSpace(value, end) < len(value) || !utf8.Valid(value):
		return nil, "it is not valid JSON"
	}
	return value[begin:end], ""
}
