package web

import "time"

// SetPatience sets how long a piece of a body may take.
func (h *Handler) SetPatience(d time.Duration) { h.patience = d }
