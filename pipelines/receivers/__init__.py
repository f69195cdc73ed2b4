"""The receiver: facts by HTTP, each answered once it is committed, and questions, asked as an analyst."""
