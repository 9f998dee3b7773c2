package store

// Contract is for the tests with PostgreSQL, which are outside of the package since what starts it imports it.
var Contract = contract
