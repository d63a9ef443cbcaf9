"""The commands, a file each: ``main(arguments)`` returns the status, or raises RequestError for a wrong request."""
