"""What a trained prompt did to the relations between classes: `sarclip inspect`."""
