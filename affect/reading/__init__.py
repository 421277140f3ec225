"""What reads faces: runs, exported models and servers; and the commands that show what they say."""
