package nomadtest_test

const (
	byChance  = "the client chose another of its servers at random: one that is not the leader, or has no debug"
	noVote    = "recorded in the first 10 s, in which new servers have no vote and are not counted as peers"
	websocket = "a WebSocket ends a real agent; in memory it is 400, and the agent lives"
)

// differs lists the stable cases whose response differs from the recorded one, with the reason.
var differs = map[string]string{
	"extra-2.0.5/lab/27":          byChance,
	"extra-2.0.5/lab/651":         byChance,
	"extra-2.0.5/lab/1117":        websocket,
	"extra-2.0.5/lab/1118":        websocket,
	"extra-tools-2.0.5/names/1":   noVote,
	"extra-tools-2.0.5/names/19":  noVote,
	"extra-tools-2.0.5/names/37":  noVote,
	"extra-tools-2.0.5/tools/362": byChance,
	"extra-tools-2.0.5/tools/629": byChance,
	"extra-tools-2.0.5/tools/643": byChance,
	"extra-tools-2.0.5/tools/789": byChance,
}
