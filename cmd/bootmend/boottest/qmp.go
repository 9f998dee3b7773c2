package boottest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"
)

// qmp speaks QEMU's machine protocol (docs/interop/qmp-spec): JSON objects, answers in order, events in between.
type qmp struct {
	conn    net.Conn
	mu      sync.Mutex // one command at a time
	answers chan qmpAnswer
	events  chan qmpEvent
}

type qmpEvent struct {
	Event string `json:"event"`
	Data  struct {
		Guest  bool   `json:"guest"`
		Reason string `json:"reason"`
	} `json:"data"`
	at time.Time
}

type qmpAnswer struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// dialQMP connects as soon as QEMU listens, and gives up when it has ended.
func dialQMP(ctx context.Context, socket string, ended <-chan struct{}) (*qmp, error) {
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err == nil {
			q := &qmp{conn: conn, answers: make(chan qmpAnswer, 1), events: make(chan qmpEvent, 256)}
			go q.read()
			return q, q.run(ctx, "qmp_capabilities", nil)
		}
		select {
		case <-ended:
			return nil, fmt.Errorf("qemu ended at once")
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (q *qmp) read() {
	defer close(q.answers)
	decoder := json.NewDecoder(q.conn)
	for {
		var raw json.RawMessage
		if decoder.Decode(&raw) != nil {
			return
		}
		event := qmpEvent{at: time.Now()}
		if json.Unmarshal(raw, &event) == nil && event.Event != "" {
			select {
			case q.events <- event:
			default: // nobody waits for a machine's hundredth event
			}
			continue
		}
		var answer qmpAnswer
		if json.Unmarshal(raw, &answer) == nil && (answer.Return != nil || answer.Error != nil) {
			q.answers <- answer
		}
	}
}

func (q *qmp) run(ctx context.Context, command string, arguments map[string]any) error {
	return q.ask(ctx, command, arguments, nil)
}

// ask runs a command that answers with something, and reads that into result.
func (q *qmp) ask(ctx context.Context, command string, arguments map[string]any, result any) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := q.conn.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("qemu %s: %w", command, err)
	}
	select {
	case answer, ok := <-q.answers:
		if !ok {
			return fmt.Errorf("qemu %s: connection closed", command)
		}
		if answer.Error != nil {
			return fmt.Errorf("qemu %s: %s", command, answer.Error.Desc)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(answer.Return, result)
	case <-ctx.Done():
		return fmt.Errorf("qemu %s: %w", command, ctx.Err())
	}
}

func (q *qmp) close() { _ = q.conn.Close() }
