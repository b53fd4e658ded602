package nomadtest

// EndpointNames are the endpoints that On accepts.
var EndpointNames = endpointNames
