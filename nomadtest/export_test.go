package nomadtest

// Listeners is how many streams an agent's log goes to.
func (a *Agent) Listeners() int {
	mu.Lock()
	defer mu.Unlock()
	return len(a.listeners)
}
