package host

// openFlags: there is nothing here that opening would wait for.
const openFlags = 0
