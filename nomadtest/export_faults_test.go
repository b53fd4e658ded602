package nomadtest

// EndpointNames are the endpoints that On knows.
var EndpointNames = endpointNames
