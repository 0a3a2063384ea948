"""What the demo asks a model to do: to rework an article that is part of its prompt."""

TASK = "Rewrite this article for a school newspaper. Keep its facts and its words."

ARTICLE = """\
The pilot fish

The pilot fish is a small hunter of the open sea. It lives in warm water all over the world and is easy \
to know by its stripes: five to seven dark bands run down its silver blue body. Most pilot fish are about \
thirty centimetres long, but some grow to twice that length. When a pilot fish is excited, its bands fade \
and three pale blue patches appear on its back.

The pilot fish is famous for the company it keeps. It swims beside sharks, rays and sea turtles, and it \
may stay with the same shark for months. Young pilot fish are too weak for this and hide among jellyfish \
and floating weed until they are strong enough to find a larger partner.

Both sides gain from the arrangement. The pilot fish eats the parasites on the skin of the shark and picks \
up the scraps of its meals. In return the shark is rid of pests that would harm it. Few other animals dare \
to come near, so the pilot fish is safe from its enemies as long as it stays close. Sharks seldom eat \
pilot fish, even when they are hungry, and small pilot fish have been seen swimming into the mouth of a \
shark to clean its teeth.

Sailors of old times saw the fish ahead of sharks and ahead of ships and believed that it showed them the \
way. This is how it got its name. In truth the pilot fish leads nobody. It rides on the wave that a large \
body pushes through the water, which saves it a good part of the work of swimming. When a ship comes into \
port, the pilot fish that have followed it turn around and look for new company in the open sea.
"""
