package server

import "net/http"

// DashboardRoutes are the routes on the deployment's own URL.
func (s *Server) DashboardRoutes() []Route {
	live := s.serving.Load()
	apart := &assembly{admin: live.admin, now: live.now} // its limiters are nobody's
	return apart.administrators(http.NotFoundHandler())
}
