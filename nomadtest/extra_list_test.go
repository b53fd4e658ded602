package nomadtest_test

// differs are the stable cases in which agents in memory answer unlike the recorded ones, and why.
var differs = map[string]string{}
