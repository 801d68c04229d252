console.log("not a comment:", process.env.GITHUB_EVENT_NAME);
